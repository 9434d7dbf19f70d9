"""A server on loopback that speaks as much of the hub's routes as its own client asks for."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_LARGE = 10_000


class Hub:
    """One model repository.

    Args:
        name: `organisation/model`.
        files: Content by name; those above 10,000 bytes are "LFS" files with a hash.

    Attributes:
        url: The endpoint.
        requests: Method, path and Range header of every request for a file.
        cut_after: Close the connection after so many bytes of a file's body, once each: name to bytes.
        gated: Whether asking needs a token that nobody has.
    """

    def __init__(self, name: str, files: dict[str, bytes]) -> None:
        self.name = name
        self.files = files
        self.requests: list[tuple[str, str, str | None]] = []
        self.cut_after: dict[str, int] = {}
        self.corrupt: set[str] = set()
        self.gated = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> "Hub":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def ranges(self, file: str) -> list[str | None]:
        """The Range headers that a file was fetched with."""
        return [asked for method, path, asked in self.requests if method == "GET" and path == file]

    def fetched(self) -> set[str]:
        """The files whose bodies were asked for."""
        return {path for method, path, _ in self.requests if method == "GET"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                if hub.gated:
                    return self.refuse(403, "GatedRepo", "gated")
                if path == f"/api/models/{hub.name}" or path.startswith(f"/api/models/{hub.name}/revision/"):
                    if path.endswith("/nope"):
                        return self.refuse(404, "RevisionNotFound", "no revision")
                    return self.reply_json({"id": hub.name, "sha": COMMIT, "siblings": [], "tags": []})
                if path.startswith(f"/api/models/{hub.name}/tree/"):
                    return self.reply_json([entry(name, data) for name, data in hub.files.items()])
                found = re.fullmatch(rf"/{re.escape(hub.name)}/resolve/{COMMIT}/(.+)", path)
                if found is None or found[1] not in hub.files:
                    return self.refuse(404, "RepoNotFound", "no repository")
                return self.send_file(found[1])

            def send_file(self, name: str) -> None:
                asked = self.headers.get("Range")
                hub.requests.append((self.command, name, asked))
                data = hub.files[name]
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
                body = data[start:]
                if name in hub.corrupt:
                    body = bytes(len(body))
                self.send_response(206 if asked else 200)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
                self.send_header("Content-Length", str(len(body)))
                if asked:
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                self.end_headers()
                if self.command == "HEAD":
                    return
                cut = hub.cut_after.pop(name, None)
                self.wfile.write(body[:cut])
                if cut is not None:
                    self.close_connection = True

            def reply_json(self, value: Any) -> None:
                body = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def refuse(self, status: int, code: str, message: str) -> None:
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                self.send_header("X-Error-Message", message)
                self.send_header("Content-Length", "0")
                self.end_headers()

        return Handler


def entry(name: str, data: bytes) -> dict[str, Any]:
    """A file as the tree route lists it."""
    found: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
    if len(data) > _LARGE:
        digest = hashlib.sha256(data).hexdigest()
        found["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
    return found
