"""A web server as a read-only store: whole files, byte ranges and sizes over http and https."""

import copy
import os
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from blixt.data.store.base import Store
from blixt.data.store.credentials import Credentials, Rolling
from blixt.data.store.errors import (
    NotFoundError,
    PermissionDeniedError,
    StoreError,
    TruncatedError,
    UnsupportedError,
)
from blixt.data.store.retry import Passing
from blixt.data.store.vendors import Options

_BUSY = frozenset((408, 425, 429))
_SMALL_BYTES = 16 << 20
"""A server that knows no ranges may send files up to this size whole."""


class Answer(NamedTuple):
    """What a server answered: the bytes, where they begin in the file, and how long the file is."""

    data: bytes
    start: int
    total: int
    headers: Mapping[str, str]


class WebStore(Store):
    """The files below an address; they can be read but neither listed nor written.

    Args:
        location: `http://host/folder` or `https://...`.
        credentials: `{"token": ...}` is sent as a bearer token, `{"username": ..., "password": ...}` as basic
            authentication; or a callback that returns either with `expires_at`.
        options: see `open_store`.
    """

    writable = False

    def __init__(self, location: str, credentials: Credentials, options: Mapping[str, str]) -> None:
        self.location = location.rstrip("/")
        self._options = Options.read(options)
        if self._options.vendor:
            names = ", ".join(self._options.vendor)
            raise StoreError(
                f"{location} takes no options {names}; it knows tries, timeout_s, connect_timeout_s"
            )
        self._credentials = Rolling(credentials) if callable(credentials) else credentials
        self._client = _Client(self._options)

    def address(self, path: str) -> str:
        """Return the URL that serves a file."""
        return f"{self.location}/{quote(path)}"

    def read(self, path: str, start: int, end: int) -> memoryview:
        """Return the bytes `[start, end)` of a file."""
        if start >= end:
            return memoryview(b"")
        asked = {"Range": f"bytes={start}-{end - 1}"}
        found = self._get(f"read bytes {start} to {end} of", path, asked, most=end - start)
        data = memoryview(found.data)[start - found.start : end - found.start]
        if found.start > start or found.total < end:
            raise TruncatedError(
                f"{self.url(path)} has {found.total} bytes, too few for bytes {start} to {end}; restore it "
                "from a copy"
            )
        return data

    def get(self, path: str) -> bytes:
        """Return a whole file."""
        return self._get("read", path, {}).data

    def get_tail(self, path: str, size: int) -> tuple[bytes, int]:
        """Return the last bytes of a file, and its size."""
        found = self._get("read the end of", path, {"Range": f"bytes=-{size}"}, most=size)
        return found.data[-size:], found.total

    def size(self, path: str) -> int | None:
        """Return a file's size in bytes, None when it is not there."""
        try:
            return self._get("look at", path, {"Range": "bytes=0-0"}, most=1).total
        except NotFoundError:
            return None

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Web servers have no way to list their files.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            f"{self.url(prefix)} cannot be listed: web servers have no listing; name the files"
        )

    def sub(self, prefix: str) -> "WebStore":
        """Return the store of the files below a folder."""
        below = copy.copy(self)
        below.location = f"{self.location}/{prefix.strip('/')}"
        return below

    def headers(self) -> dict[str, str]:
        """Return what tells the server who asks."""
        given = self._credentials.get() if isinstance(self._credentials, Rolling) else self._credentials
        if given is None or isinstance(given, str):
            return {}
        if set(given) == {"token"}:
            return {"Authorization": f"Bearer {given['token']}"}
        if set(given) == {"username", "password"}:
            pair = f"{given['username']}:{given['password']}".encode()
            return {"Authorization": f"Basic {b64encode(pair).decode()}"}
        raise StoreError(
            f"credentials for {self.location} must be a token, or a username and a password; got "
            f"{', '.join(sorted(given))}"
        )

    def fetch(self, verb: str, path: str, url: str) -> Answer:
        """Return the answer to a GET of a URL that stands for `path` in messages."""
        what = f"{verb} {self.url(path)}"
        return self._options.retry.call(what, lambda _: self._client.get(url, self.headers(), what, None))

    def _get(self, verb: str, path: str, asked: Mapping[str, str], most: int | None = None) -> Answer:
        what = f"{verb} {self.url(path)}"

        def once(attempt: int) -> Answer:
            return self._client.get(self.address(path), {**asked, **self.headers()}, what, most)

        return self._options.retry.call(what, once)


class _Client:
    """A pool of connections, made when first needed, in the process that needs it."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._pool: tuple[int, Any] = (0, None)

    def __getstate__(self) -> dict[str, Any]:
        return {"options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["options"])

    def get(self, url: str, headers: Mapping[str, str], what: str, most: int | None) -> Answer:
        """Return the answer to one GET, or raise what its status means.

        Args:
            url: the whole address, not shown in errors because it may carry a signature.
            headers: to send.
            what: "read https://...", for errors.
            most: how many bytes are expected at most; None for a whole file.
        """
        import httpx

        deadline = time.monotonic() + self._options.timeout_s
        try:
            sent = {"Accept-Encoding": "identity", **headers}
            with self._http(httpx).stream("GET", url, headers=sent) as answer:
                start, total = _place(answer, what, most)
                data = _body(answer.iter_raw(), deadline)
        except httpx.TransportError as problem:
            raise Passing(str(problem) or type(problem).__name__) from problem
        except (httpx.InvalidURL, httpx.TooManyRedirects) as problem:
            raise StoreError(f"cannot {what}: {problem}; check the address") from problem
        length = answer.headers.get("Content-Length")
        if length is not None and len(data) != int(length):
            raise Passing(f"only {len(data)} of {length} bytes arrived")
        if total < 0:
            total = start + len(data)
        return Answer(data, start, total, answer.headers)

    def _http(self, httpx: Any) -> Any:
        process, pool = self._pool
        if process != os.getpid():
            timeout = httpx.Timeout(self._options.timeout_s, connect=self._options.connect_timeout_s)
            limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
            pool = httpx.Client(timeout=timeout, limits=limits, follow_redirects=True)
            self._pool = os.getpid(), pool
        return pool


def _place(answer: Any, what: str, most: int | None) -> tuple[int, int]:
    """Return where the body begins in the file, and how long the file is (-1: as long as the body)."""
    status = answer.status_code
    if status == 206:
        span, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        try:
            return int(span.partition("-")[0]), int(total)
        except ValueError:
            raise Passing("the server answered a range without saying which") from None
    if status == 200:
        length = int(answer.headers.get("Content-Length", -1))
        if most is not None and (length > _SMALL_BYTES or length < 0) and length > most:
            raise UnsupportedError(
                f"cannot {what}: the server does not know byte ranges, and the file has {length} bytes; use "
                "another server"
            )
        return 0, length
    if status == 416:
        total = answer.headers.get("Content-Range", "").partition("/")[2]
        if total == "0":
            return 0, 0
        raise TruncatedError(f"cannot {what}: it has only {total or 'fewer'} bytes; restore it from a copy")
    raise _refusal(status, what)


def _refusal(status: int, what: str) -> Exception:
    if status in (404, 410):
        return NotFoundError(f"cannot {what}: it is not there; check the address")
    if status in (401, 403):
        return PermissionDeniedError(
            f"may not {what}: the server answered {status}; check the credentials, or whether the signature "
            "expired"
        )
    if status in _BUSY or status >= 500:
        return Passing(f"the server answered {status}")
    return StoreError(f"cannot {what}: the server answered {status}; check the address")


def _body(parts: Iterator[bytes], deadline: float) -> bytes:
    """Collect what arrives, until the deadline: a server that sends a byte now and then must not hold us."""
    arrived: list[bytes] = []
    for part in parts:
        arrived.append(part)
        if time.monotonic() > deadline:
            raise Passing("the answer took too long")
    return arrived[0] if len(arrived) == 1 else b"".join(arrived)
