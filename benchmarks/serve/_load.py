"""A closed-loop HTTP load: so many connections, each sending its next request when the last is answered.

It reads only what it must (status, length or the last chunk), so that it costs far less than any server here.
"""

import asyncio
import statistics
import time
from dataclasses import dataclass, field

import psutil
import uvloop

LENGTH = b"content-length:"
LAST_CHUNK = b"0\r\n\r\n"


@dataclass
class Load:
    """What one round saw."""

    answered: int = 0
    failed: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    latencies: list[float] = field(default_factory=list[float])

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU microseconds of the server's process tree for an answer."""
        return self.cpu_seconds * 1e6 / max(1, self.answered)

    def percentile_ms(self, percent: int) -> float:
        """A percentile of the latencies."""
        if len(self.latencies) < 2:
            return float("nan")
        return statistics.quantiles(self.latencies, n=100, method="inclusive")[percent - 1] * 1e3


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, load: Load, until: float) -> None:
        self._request = request
        self._load = load
        self._until = until
        self._parts: list[bytes] = []
        self._missing: int | None = None  # bytes; None while the head is not complete or the end is a chunk
        self._chunked = False
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._send()

    def data_received(self, data: bytes) -> None:
        if self._missing is not None:
            self._missing -= len(data)
        elif not self._chunked:
            self._read_head(data)
        if (self._missing is not None and self._missing <= 0) or (
            self._chunked and data.endswith(LAST_CHUNK)
        ):
            self._answered()

    def _read_head(self, data: bytes) -> None:
        self._parts.append(data)
        head = data if len(self._parts) == 1 else b"".join(self._parts)
        end = head.find(b"\r\n\r\n")
        if end < 0:
            return
        self._ok = head.startswith(b"HTTP/1.1 200")
        lower = head[:end].lower()
        start = lower.find(LENGTH)
        if start < 0:
            self._chunked = True
            return
        stop = lower.find(b"\r\n", start)
        length = int(lower[start + len(LENGTH) : stop if stop > 0 else None])
        self._missing = length - (len(head) - end - 4)

    def _answered(self) -> None:
        load, now = self._load, time.perf_counter()
        load.latencies.append(now - self._sent)
        if self._ok:
            load.answered += 1
        else:
            load.failed += 1
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        self._parts.clear()
        self._missing = None
        self._chunked = False
        self._sent = time.perf_counter()
        self._transport.write(self._request)


def tree_cpu(process: psutil.Process) -> float:
    """CPU seconds that a process and its children have used."""
    family = [process, *process.children(recursive=True)]
    return sum(sum(p.cpu_times()[:2]) for p in family)


def post(body: bytes, content_type: str = "application/json", path: str = "/predict") -> bytes:
    """A request's bytes."""
    lines = (
        f"POST {path} HTTP/1.1",
        "host: bench",
        f"content-type: {content_type}",
        f"content-length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


def drive(port: int, pid: int, request: bytes, connections: int, seconds: float) -> Load:
    """Load a server for so long and measure what its whole process tree spends."""

    async def main() -> Load:
        load, loop = Load(), asyncio.get_running_loop()
        server = psutil.Process(pid)
        cpu, start = tree_cpu(server), time.perf_counter()
        until = start + seconds
        made = [
            await loop.create_connection(lambda: _Connection(request, load, until), "127.0.0.1", port)
            for _ in range(connections)
        ]
        async with asyncio.timeout(seconds + 60):
            await asyncio.gather(*(protocol.done for _, protocol in made))
        load.seconds = time.perf_counter() - start
        load.cpu_seconds = tree_cpu(server) - cpu
        return load

    return uvloop.run(main())
