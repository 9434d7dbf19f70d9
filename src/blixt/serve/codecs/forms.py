"""Forms: urlencoded, and multipart cut in place, so that a file's bytes are not copied on the way to you."""

import io
import re
from typing import Any
from urllib.parse import parse_qsl, unquote

from blixt.serve.codecs import Buffer
from blixt.serve.errors import HTTPError

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
FORM_MEDIA = frozenset((URLENCODED, MULTIPART))
MAX_FIELDS = 1000
MAX_PART_HEADER_BYTES = 8192
_LINE = re.compile(rb"[ \t]*\r\n")
_HEAD_END = re.compile(rb"\r\n\r\n")
_HEADER = re.compile(r"^([!-9;-~]+):[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_PARAMETER = re.compile(r""";\s*([\w*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))""")


class UploadFile:
    """One file of a form.

    Attributes:
        filename: As the client named it; do not trust it as a path.
        content_type: As the client said.
        view: The content, without a copy.
    """

    def __init__(self, filename: str, content_type: str, view: memoryview) -> None:
        self.filename = filename
        self.content_type = content_type
        self.view = view
        self._file: io.BytesIO | None = None

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.view)

    @property
    def file(self) -> io.BytesIO:
        """The content as a file object (a copy, made on first use)."""
        if self._file is None:
            self._file = io.BytesIO(self.view)
        return self._file

    def read(self, size: int = -1) -> bytes:
        """The next bytes of the content; all that is left by default."""
        return self.file.read(size)

    def __repr__(self) -> str:
        return f"UploadFile({self.filename!r}, {self.content_type!r}, {self.size} bytes)"


class Form(dict[str, "str | UploadFile"]):
    """A form's fields, by name; of a name that came several times, the last."""

    def __init__(self, items: "list[tuple[str, str | UploadFile]]") -> None:
        super().__init__(items)
        self.items_in_order = items

    def get_all(self, name: str) -> "list[str | UploadFile]":
        """Every value of a name, in the order sent."""
        return [value for key, value in self.items_in_order if key == name]

    def files(self) -> list[UploadFile]:
        """Every file, in the order sent."""
        return [value for _, value in self.items_in_order if isinstance(value, UploadFile)]


def read_form(body: Buffer, media: str, parameters: dict[str, str]) -> Form:
    """A form of either media type.

    Raises:
        HTTPError: 400, it is malformed; 413, it has too many fields.
    """
    if media == URLENCODED:
        return _urlencoded(bytes(body))
    if not parameters.get("boundary"):
        raise HTTPError(400, "The multipart form names no boundary in its content type.")
    return Form(_Parts(memoryview(body), parameters["boundary"]).read())


def _urlencoded(body: bytes) -> Form:
    try:
        text = body.decode()
        pairs: list[tuple[str, Any]] = list(parse_qsl(text, keep_blank_values=True, errors="strict"))
    except UnicodeDecodeError as error:
        raise HTTPError(400, f"The form is not UTF-8: {error}") from None
    if len(pairs) > MAX_FIELDS:
        raise HTTPError(413, f"The form has more than {MAX_FIELDS} fields.")
    return Form(pairs)


class _Parts:
    """Walks over a multipart body; `re` finds boundaries in any buffer without copying it."""

    def __init__(self, body: memoryview, boundary: str) -> None:
        self._body = body
        self._first = re.compile(b"(?:^|\r\n)--" + re.escape(boundary.encode("latin-1", "replace")))
        self._next = re.compile(b"\r\n--" + re.escape(boundary.encode("latin-1", "replace")))

    def read(self) -> "list[tuple[str, str | UploadFile]]":
        items: list[tuple[str, str | UploadFile]] = []
        found = self._first.search(self._body)
        if found is None:
            raise HTTPError(400, "The multipart form does not contain its boundary.")
        position = found.end()
        while bytes(self._body[position : position + 2]) != b"--":
            if len(items) >= MAX_FIELDS:
                raise HTTPError(413, f"The form has more than {MAX_FIELDS} fields.")
            start = self._after_line(position)
            # Searching from the line break before also finds the end of a part that has nothing at all.
            end = self._next.search(self._body, start - 2)
            if end is None:
                raise HTTPError(400, "The multipart form ends in the middle of a part.")
            items.append(self._part(start, max(start, end.start())))
            position = end.end()
        return items

    def _after_line(self, position: int) -> int:
        line = _LINE.match(self._body, position)
        if line is None:
            raise HTTPError(400, "A boundary of the multipart form is not followed by a line break.")
        return line.end()

    def _part(self, start: int, end: int) -> "tuple[str, str | UploadFile]":
        limit = min(end, start + MAX_PART_HEADER_BYTES)
        head = _HEAD_END.search(self._body, start, limit)
        if head is None:
            raise HTTPError(400, "A part of the multipart form has no end of its headers.")
        text = bytes(self._body[start : head.start()]).decode("utf-8", "replace").replace("\r\n", "\n")
        headers = {name.lower(): value for name, value in _HEADER.findall(text)}
        parameters = _parameters(headers.get("content-disposition", ""))
        name, filename = parameters.get("name"), parameters.get("filename")
        if name is None:
            raise HTTPError(400, "A part of the multipart form has no name.")
        content = self._body[head.end() : end]
        if filename is None:
            try:
                return name, bytes(content).decode()
            except UnicodeDecodeError:
                filename = ""  # a field that is no text
        return name, UploadFile(filename, headers.get("content-type", "application/octet-stream"), content)


def _parameters(value: str) -> dict[str, str]:
    """A header's parameters; `filename*=UTF-8''%e2%82%ac` wins over its plain twin."""
    found: dict[str, str] = {}
    for name, quoted, bare in _PARAMETER.findall(value):
        text = re.sub(r"\\([\"\\])", r"\1", quoted) if quoted else bare
        if name.endswith("*"):
            charset, _, encoded = text.partition("'")
            found[name[:-1].lower()] = _decoded(encoded.partition("'")[2], charset)
        else:
            found.setdefault(name.lower(), text)
    return found


def _decoded(text: str, charset: str) -> str:
    try:
        return unquote(text, charset or "utf-8", "replace")
    except LookupError:
        return unquote(text)
