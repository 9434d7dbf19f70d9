"""A proxy in front of an HTTP server that misbehaves as told: busy, slow, short, dropped, corrupt."""

import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["503", "500", "429", "drop", "short", "lie", "reset", "stall", "corrupt"]
"""What is done to an answer.

"503", "500", "429": that status instead; "drop": the connection is closed without an answer; "short": half
of the body, then closed; "lie": half of the body, said to be all; "reset": half, then a TCP reset; "stall":
half, then nothing until the proxy closes; "corrupt": one byte of the body is flipped.
"""


@dataclass(frozen=True)
class Request:
    """One request that the proxy saw."""

    method: str
    path: str
    range: tuple[int, int] | None
    fault: Fault | None


@dataclass
class FaultyProxy:
    """A proxy; `with FaultyProxy(endpoint) as proxy` runs it.

    Attributes:
        target: the server behind it.
        faults: done to the next GETs that `faulty` accepts, one each, in this order.
        always: done to all GETs that `faulty` accepts once `faults` is empty.
        faulty: which requests may be harmed.
        left_out: headers, in lower case, that do not reach the server.
        requests: what was asked, in order of arrival.
    """

    target: str
    faults: deque[Fault] = field(default_factory=deque[Fault])
    always: Fault | None = None
    faulty: Callable[[str, str], bool] = lambda method, path: method == "GET"
    left_out: tuple[str, ...] = ("connection",)
    requests: list[Request] = field(default_factory=list[Request])

    def __enter__(self) -> "FaultyProxy":
        self._lock = threading.Lock()
        self._closing = threading.Event()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def gets(self, ending: str = "") -> list[Request]:
        """Return the GETs of objects whose path ends so."""
        return [r for r in self.requests if r.method == "GET" and urlsplit(r.path).path.endswith(ending)]

    def decide(self, method: str, path: str, byte_range: str | None) -> Fault | None:
        """Choose the fault of a request and note the request down."""
        with self._lock:
            fault = None
            if self.faulty(method, path):
                fault = self.faults.popleft() if self.faults else self.always
            self.requests.append(Request(method, path, _parse(byte_range), fault))
            return fault

    def wait_for_close(self) -> None:
        """Hold a stalled answer until the proxy ends."""
        self._closing.wait(60)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: FaultyProxy

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.proxy.decide(self.command, self.path, self.headers.get("Range"))
        if fault == "drop":
            self.close_connection = True
            return
        if fault in ("503", "500", "429"):
            self.send_response(int(fault))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        answer, content = self._forward(body)
        if fault == "corrupt" and content:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        self._answer(answer, content, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def _forward(self, body: bytes) -> tuple[HTTPResponse, bytes]:
        target = urlsplit(self.proxy.target)
        connection = HTTPConnection(target.hostname or "", target.port, timeout=240)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in self.proxy.left_out:
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer, content

    def _answer(self, answer: HTTPResponse, content: bytes, fault: Fault | None) -> None:
        sent = content if fault not in ("short", "lie", "reset", "stall") else content[: len(content) // 2]
        said = len(sent) if fault == "lie" else len(content)
        if self.command == "HEAD":
            said = int(answer.headers.get("Content-Length", 0))
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(said))
        self.end_headers()
        self.wfile.write(sent)
        if fault == "stall":
            self.proxy.wait_for_close()
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        if fault in ("short", "reset", "stall"):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):
            self.close_connection = True


def _parse(byte_range: str | None) -> tuple[int, int] | None:
    if byte_range is None or byte_range.startswith("bytes=-"):
        return None
    first, _, last = byte_range.removeprefix("bytes=").partition("-")
    return int(first), int(last) + 1
