"""A web server with byte ranges that serves a folder, and one that speaks a hub's addresses."""

import base64
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class WebServer:
    """Serves files over plain HTTP; `with WebServer(folder) as server` runs it.

    Attributes:
        folder: what it serves.
        allowed: decides from path and headers whether a request is answered (else 401).
        ranges: whether it knows byte ranges.
        requests: (path with query, headers in lower case) of what was asked.
    """

    folder: Path
    allowed: Callable[[str, dict[str, str]], bool] = lambda path, headers: True
    ranges: bool = True
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list[tuple[str, dict[str, str]]])

    def __enter__(self) -> "WebServer":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"web": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def respond(self, handler: "_Handler", path: str) -> None:
        """Answer a request that is allowed."""
        file = self.folder / path.lstrip("/")
        if not file.is_file():
            handler.answer(404, b"")
            return
        content = file.read_bytes()
        asked = handler.headers.get("Range")
        if asked is None or not self.ranges:
            handler.answer(200, content)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(content) - int(last))
        end = min(int(last) + 1, len(content)) if first and last else len(content)
        if start >= len(content):
            handler.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        handler.answer(206, content[start:end], {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"})


@dataclass
class HubServer(WebServer):
    """Speaks a hub's addresses for the dataset `owner/name`: a listing in pages, redirects to a file server.

    Attributes:
        files: the address of the server that has the bytes.
        page: entries per page of the listing.
    """

    files: str = ""
    page: int = 2

    def respond(self, handler: "_Handler", path: str) -> None:
        resolve, tree = "/datasets/owner/name/resolve/main/", "/api/datasets/owner/name/tree/main"
        if path.startswith(resolve):
            handler.answer(302, b"", {"Location": f"{self.files}/{path.removeprefix(resolve)}"})
        elif path.startswith(tree):
            self._list(handler, path.removeprefix(tree).strip("/"))
        else:
            handler.answer(404, b"")

    def _list(self, handler: "_Handler", below: str) -> None:
        top = self.folder / below
        if not top.is_dir():
            handler.answer(404, b"")
            return
        entries = [
            {
                "type": "directory" if file.is_dir() else "file",
                "path": file.relative_to(self.folder).as_posix(),
                "size": 0 if file.is_dir() else file.stat().st_size,
            }
            for file in sorted(top.rglob("*"))
        ]
        query = urlsplit(handler.path).query
        start = int(query.partition("cursor=")[2] or 0)
        more = {}
        if start + self.page < len(entries):
            next_page = (
                f"{self.address}{urlsplit(handler.path).path}?recursive=true&cursor={start + self.page}"
            )
            more = {"Link": f'<{next_page}>; rel="next"'}
        handler.answer(200, json.dumps(entries[start : start + self.page]).encode(), more)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: WebServer

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.web.requests.append((self.path, headers))
        if self.web.allowed(self.path, headers):
            self.web.respond(self, unquote(urlsplit(self.path).path))
        else:
            self.answer(401, b"")

    do_HEAD = do_GET

    def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def basic(username: str, password: str) -> str:
    """Return the header of basic authentication."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
