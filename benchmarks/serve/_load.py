"""A closed-loop HTTP load: so many connections, each sending its next request when the last is answered."""

import asyncio
import statistics
import time
from dataclasses import dataclass, field

import httptools
import psutil
import uvloop


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
        return self.answered / self.seconds

    @property
    def cpu_us(self) -> float:
        return self.cpu_seconds * 1e6 / max(1, self.answered)

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.latencies) * 1e3 if self.latencies else float("nan")


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, load: Load, until: float) -> None:
        self._request = request
        self._load = load
        self._until = until
        self._parser = httptools.HttpResponseParser(self)
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        load, now = self._load, time.perf_counter()
        load.latencies.append(now - self._sent)
        if self._parser.get_status_code() == 200:
            load.answered += 1
        else:
            load.failed += 1
        if now < self._until:
            self._parser = httptools.HttpResponseParser(self)
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)  # type: ignore[attr-defined]


def tree_cpu(process: psutil.Process) -> float:
    """CPU seconds that a process and its children have used."""
    family = [process, *process.children(recursive=True)]
    return sum(sum(p.cpu_times()[:2]) for p in family)


def drive(port: int, pid: int, connections: int, seconds: float, path: str = "/predict") -> Load:
    """Load a server for so long and measure what its whole process tree spends."""
    body = b'{"input": 4.0}'
    lines = (
        f"POST {path} HTTP/1.1",
        "host: b",
        "content-type: application/json",
        f"content-length: {len(body)}",
    )
    request = "\r\n".join((*lines, "", "")).encode() + body

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
