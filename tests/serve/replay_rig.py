"""What the replay of raw bytes through both lanes needs: models, a raw client, a reader of its answers."""

import re
import socket
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from blixt.serve import API, HTTPError, Limits, Server

KEY = "s3cret"
LIMITS = Limits(receive_timeout_s=0.8, min_bytes_per_s=0, keep_alive_s=1.6, max_payload_bytes=100_000)


class Point(msgspec.Struct):
    x: int
    tags: list[str] = []


class Mirror(API):
    """Answers with what it got; some values ask for more."""

    def predict(self, value: Any) -> Any:
        if value == "teapot":
            raise HTTPError(418, {"sort": "stout"}, {"x-tea": "green"})
        if value == "long":
            return "many words " * 200
        if value == "bytes":
            return b"\x00\x01raw"
        return {"mirror": value}


class Typed(API):
    api_path = "/typed"

    def predict(self, point: Point) -> Any:
        return {"double": point.x * 2, "tags": point.tags}


class Raw(API):
    api_path = "/raw"

    def predict(self, body: bytes) -> Any:
        return {"length": len(body), "sum": sum(body)}


class Count(API):
    """Streams; a request may ask for an error before or after the first piece."""

    api_path = "/count"
    stream = True

    def predict(self, n: int) -> Iterator[Any]:
        if n == 13:
            raise HTTPError(409, "unlucky")
        for i in range(n):
            if i == 7:
                raise HTTPError(410, "no more")
            yield {"i": i}


def server(hot: bool) -> Server:
    """The same server with and without the hot lane."""
    apis = [Mirror(), Typed(), Raw(), Count()]
    return Server(apis, accelerator="cpu", api_key=KEY, timeout_s=60, limits=LIMITS, hot_lane=hot)


class Answer(NamedTuple):
    """One answer as a client sees it."""

    line: bytes
    headers: tuple[bytes, ...]
    body: bytes


def exchange(port: int, pieces: list[bytes], timeout_s: float = 60.0) -> list[Answer]:
    """Send pieces one by one on a connection and return the answers up to its end.

    Raises:
        TimeoutError: The server kept the connection without a word.
    """
    deadline = time.monotonic() + timeout_s
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout_s) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                sock.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all was sent
        while True:
            sock.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = sock.recv(1 << 16)
            except ConnectionResetError:
                break
            if not data:
                break
            received += data
    return list(answers(received))


def converse(port: int, requests: list[list[bytes]], timeout_s: float = 60.0) -> list[Answer]:
    """Send requests on a connection, each in pieces, and wait for the answer before the next one.

    The answers must have a length, and the connection must live until the last.
    """
    heard: list[Answer] = []
    with socket.create_connection(("127.0.0.1", port), timeout_s) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for pieces in requests:
            for piece in pieces:
                sock.sendall(piece)
            received = b""
            while not (found := list(answers(received))) or len(found[0].body) < length_of(found[0]):
                data = sock.recv(1 << 16)
                assert data, "the server closed the connection"
                received += data
            heard += found
    return heard


def length_of(answer: Answer) -> int:
    """The length that an answer's headers announce."""
    return next((int(h[15:]) for h in answer.headers if h.startswith(b"content-length:")), 0)


def answers(data: bytes) -> Iterator[Answer]:
    """The answers in a connection's bytes, without dates; chunked bodies are joined."""
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        line, *headers = head.split(b"\r\n")
        kept = tuple(header for header in headers if not header.startswith(b"date:"))
        if b"transfer-encoding: chunked" in kept:
            body, data = _dechunk(data)
        else:
            length = length_of(Answer(line, kept, b""))
            if re.match(rb"HTTP/1\.1 \d", data):
                length = 0  # the answer to a HEAD
            body, data = data[:length], data[length:]
        yield Answer(line, kept, body)


def _dechunk(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        length = int(size or b"0", 16)
        body += data[:length]
        data = data[length + 2 :]
        if not length:
            return body, data
