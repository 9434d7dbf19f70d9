"""The writing half of Google's XML interface, in front of fake-gcs-server, which has only the reading half.

obstore writes by the XML interface: a plain PUT, with `x-goog-if-generation-match: 0` where the object must
be new, and POST `?uploads`, PUT `?partNumber=` and POST `?uploadId=` for large ones. fake-gcs-server (1.54)
answers all of these with "invalid uploadType"; changes that teach it are open since 2023, and no other
emulator on PyPI, npm or Debian heeds that condition or knows parts. What it does have is the same verbs in
JSON: an insert with `ifGenerationMatch`, and compose. So requests are said again in those words; the objects,
and the decision which of two writers was first, stay the emulator's. All else passes as it is.
"""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree

import httpx

_BOUNDARY = "blixt-parts-of-one-object"
_HOP = ("connection", "transfer-encoding", "content-length", "content-encoding")


@dataclass
class XmlFront:
    """A server that speaks the XML interface and keeps its objects in an emulator; `with XmlFront(address)`.

    Attributes:
        emulator: the address of fake-gcs-server.
        uploads: for each upload in parts, the ETags of what arrived, by part number.
        writes: (method, query) of each request that wrote.
    """

    emulator: str
    uploads: dict[str, dict[int, str]] = field(default_factory=dict[str, dict[int, str]])
    writes: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def __enter__(self) -> "XmlFront":
        self.client = httpx.Client(base_url=self.emulator, timeout=240)
        self.numbers = count(1)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"front": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.client.close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def insert(self, bucket: str, name: str, content: bytes, generation: str | None) -> httpx.Response:
        """Put an object; only the JSON insert in two parts heeds the condition on the generation."""
        about = f"--{_BOUNDARY}\r\nContent-Type: application/json\r\n\r\n{json.dumps({'name': name})}\r\n"
        head = f"{about}--{_BOUNDARY}\r\nContent-Type: application/octet-stream\r\n\r\n"
        condition = {} if generation is None else {"ifGenerationMatch": generation}
        return self.client.post(
            f"/upload/storage/v1/b/{bucket}/o",
            params={"uploadType": "multipart", "name": name, **condition},
            content=head.encode() + content + f"\r\n--{_BOUNDARY}--\r\n".encode(),
            headers={"Content-Type": f"multipart/related; boundary={_BOUNDARY}"},
        )

    def compose(self, bucket: str, name: str, upload: str, body: bytes) -> httpx.Response | None:
        """Make an object of the parts that a list names, None where a part or its ETag is not right."""
        listed = [
            (int(part.findtext("{*}PartNumber", "0")), part.findtext("{*}ETag", ""))
            for part in ElementTree.fromstring(body).iter()
            if part.tag.rpartition("}")[2] == "Part"
        ]
        arrived = self.uploads.pop(upload)
        if not listed or any(arrived.get(number) != etag.strip('"') for number, etag in listed):
            return None
        parts = [{"name": part_name(upload, number)} for number, _ in listed]
        made = self.client.post(
            f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}/compose", json={"sourceObjects": parts}
        )
        self.forget(bucket, upload, arrived)
        return made

    def forget(self, bucket: str, upload: str, arrived: dict[int, str]) -> None:
        """Delete the parts of an upload."""
        for number in arrived:
            self.client.delete(f"/storage/v1/b/{bucket}/o/{quote(part_name(upload, number), safe='')}")


def part_name(upload: str, number: int) -> str:
    return f".uploads/{upload}/{number}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    front: XmlFront

    def do_PUT(self) -> None:
        bucket, name, query = self._asked()
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if "uploadId" not in query:
            self._inserted(
                self.front.insert(bucket, name, content, self.headers.get("x-goog-if-generation-match"))
            )
            return
        upload, number = query["uploadId"][0], int(query["partNumber"][0])
        self.front.insert(bucket, part_name(upload, number), content, None).raise_for_status()
        etag = hashlib.md5(content).hexdigest()
        self.front.uploads[upload][number] = etag
        self._answer(200, b"", {"ETag": f'"{etag}"'})

    def do_POST(self) -> None:
        bucket, name, query = self._asked()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "uploads" in query:
            upload = f"upload-{next(self.front.numbers)}"
            self.front.uploads[upload] = {}
            self._xml("InitiateMultipartUploadResult", Bucket=bucket, Key=name, UploadId=upload)
            return
        made = self.front.compose(bucket, name, query["uploadId"][0], body)
        if made is None:
            self._answer(400, b"<Error><Code>InvalidPart</Code></Error>", {})
        elif made.is_success:
            self._xml("CompleteMultipartUploadResult", Bucket=bucket, Key=name, ETag=_etag(made))
        else:
            self._answer(made.status_code, made.content, {})

    def do_DELETE(self) -> None:
        bucket, _, query = self._asked()
        if "uploadId" not in query:
            self._pass_on()
            return
        upload = query["uploadId"][0]
        self.front.forget(bucket, upload, self.front.uploads.pop(upload))
        self._answer(204, b"", {})

    def _pass_on(self) -> None:
        asked = {name: value for name, value in self.headers.items() if name.lower() not in ("host", *_HOP)}
        made = self.front.client.request(
            self.command, self.path, headers={**asked, "Accept-Encoding": "identity"}
        )
        given = {name: value for name, value in made.headers.items() if name.lower() not in _HOP}
        size = int(made.headers.get("Content-Length", len(made.content)))
        self._answer(made.status_code, made.content, given, size)

    do_GET = do_HEAD = _pass_on

    def _asked(self) -> tuple[str, str, dict[str, list[str]]]:
        """Return the bucket, the object and the query, and note the request down."""
        address = urlsplit(self.path)
        bucket, _, name = address.path.lstrip("/").partition("/")
        self.front.writes.append((self.command, address.query))
        return bucket, unquote(name), parse_qs(address.query, keep_blank_values=True)

    def _inserted(self, made: httpx.Response) -> None:
        if made.is_success:
            generation = str(made.json()["generation"])
            self._answer(200, b"", {"ETag": _etag(made), "x-goog-generation": generation})
        else:
            self._answer(made.status_code, made.content, {})

    def _xml(self, kind: str, **fields: str) -> None:
        root = ElementTree.Element(kind)
        for name, value in fields.items():
            ElementTree.SubElement(root, name).text = value
        self._answer(200, ElementTree.tostring(root), {"Content-Type": "application/xml"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str], size: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _etag(made: httpx.Response) -> str:
    checksum = made.json().get("md5Hash")
    return f'"{base64.b64decode(checksum).hex()}"' if checksum else f'"{made.json()["generation"]}"'
