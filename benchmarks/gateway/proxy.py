"""Requests per second and CPU per request through the gateway, against the same upstream without it.

Every competitor is one process on one event loop and serves the same upstream. Rounds are interleaved, so
that a busy machine hurts all alike; medians and ratios are printed, JSON is written beside the text. nginx
and a plain aiohttp proxy take part where they are installed.

    python benchmarks/gateway/proxy.py --rounds 5 --seconds 2 --out benchmarks/gateway
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import multiprocessing
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import uvloop

from blixt.cloud.gateway import Backend, Gateway, RouteTable, Target, connect_tcp

SMALL = b'{"message": "a small answer of an API"}'
LARGE = b"x" * (1 << 20)
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 64; }}
  server {{ listen 127.0.0.1:{port}; keepalive_requests 1000000;
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}
"""


@dataclass(frozen=True)
class Competitor:
    """Where to send requests, and whose CPU time counts (None: nobody stands between)."""

    name: str
    port: int
    prefix: str
    pid: int | None


class _Upstream(asyncio.Protocol):
    """Answers every request head at once; the cheapest upstream that keeps connections."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        body = LARGE if b"/large" in data[:64] else SMALL
        for _ in range(data.count(b"\r\n\r\n")):
            self._transport.write(  # type: ignore[attr-defined]
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body)
            )


def _serve_upstream(ready: Connection, uds: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        unix = await loop.create_unix_server(_Upstream, uds)
        server = await loop.create_server(_Upstream, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        async with unix, server:
            await asyncio.Event().wait()

    uvloop.run(main())


def _serve_gateway(ready: Connection, uds: str, upstream: int) -> None:
    async def dial(allocation_id: str, port: int) -> object:
        return await connect_tcp("127.0.0.1", upstream)

    async def authenticate(token: str) -> str | None:
        return token

    async def authorize(principal: str, teamspace: str) -> bool:
        return True

    async def main() -> None:
        table = RouteTable()
        table.set_deployment(Backend("u1", "lab", "m", replicas=(Target("a1", 1),), state="ready"))
        gateway = Gateway(table, dial, authenticate, authorize, lambda uid: None, api=uds)  # type: ignore[arg-type]
        ready.send(await gateway.start("127.0.0.1", 0))
        await asyncio.Event().wait()

    uvloop.run(main())


def _serve_aiohttp(ready: Connection, upstream: int) -> None:
    """The proxy that a Python programmer would write with aiohttp's server and client."""
    from aiohttp import ClientSession, TCPConnector, web

    async def main() -> None:
        async with ClientSession(connector=TCPConnector(limit=0), auto_decompress=False) as session:

            async def proxy(request: web.Request) -> web.StreamResponse:
                url = f"http://127.0.0.1:{upstream}{request.rel_url}"
                async with session.request(request.method, url, headers=request.headers) as answer:
                    response = web.StreamResponse(status=answer.status, headers=answer.headers)
                    await response.prepare(request)
                    async for piece in answer.content.iter_any():
                        await response.write(piece)
                    return response

            app = web.Application()
            app.router.add_route("*", "/{path:.*}", proxy)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            ready.send(runner.addresses[0][1])
            await asyncio.Event().wait()

    uvloop.run(main())


@contextlib.contextmanager
def _process(target: Callable[..., None], *args: object) -> Iterator[tuple[int, int]]:
    """Run `target` in a process; gives its pid and the port it reports."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(theirs, *args), daemon=True)
    process.start()
    try:
        if not ours.poll(30):
            raise SystemExit("A benchmark server did not start within 30 s.")
        assert process.pid is not None
        yield process.pid, ours.recv()
    finally:
        process.terminate()
        process.join()


@contextlib.contextmanager
def _nginx(folder: Path, upstream: int) -> Iterator[Competitor | None]:
    program = shutil.which("nginx")
    if program is None:
        yield None
        return
    port = _free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, upstream=upstream, port=port))
    process = subprocess.Popen([program, "-c", str(folder / "nginx.conf"), "-p", str(folder)])
    try:
        deadline = time.monotonic() + 10
        while not psutil.Process(process.pid).children() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield Competitor("nginx", port, "", psutil.Process(process.pid).children()[0].pid)
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Caller(asyncio.Protocol):
    """One keep-alive client: sends a request, counts the answer's bytes, sends the next."""

    def __init__(self, request: bytes, body_bytes: int) -> None:
        self._request = request
        self._body_bytes = body_bytes
        self._head = b""
        self._left = -1
        self._sent_at = 0.0
        self.latencies: list[float] = []
        self.stopping = False
        self.stopped = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.stopped.done():
            self.stopped.set_exception(ConnectionError("the server closed a connection in mid-run"))

    def _next(self) -> None:
        self._head, self._left = b"", -1
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self._head.startswith(b"HTTP/1.1 200"):
                self.stopped.set_exception(ConnectionError(f"The server answered {self._head[:200]!r}."))
                self._transport.abort()  # type: ignore[attr-defined]
                return
            self._left = self._body_bytes
            data = self._head[end + 4 :]
        self._left -= len(data)
        if self._left == 0:
            self.latencies.append(time.perf_counter() - self._sent_at)
            if not self.stopping:
                self._next()
            elif not self.stopped.done():
                self.stopped.set_result(None)


async def _load(
    competitor: Competitor, path: str, body_bytes: int, clients: int, seconds: float
) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    request = (
        f"GET {competitor.prefix}{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer alice\r\n"
        "User-Agent: bench\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n"
    ).encode()
    watched = psutil.Process(competitor.pid) if competitor.pid else None
    callers: list[_Caller] = []
    before = sum(watched.cpu_times()[:2]) if watched else 0.0
    started = time.perf_counter()
    for _ in range(clients):
        _, caller = await loop.create_connection(
            lambda: _Caller(request, body_bytes), "127.0.0.1", competitor.port
        )
        callers.append(caller)
    await asyncio.sleep(seconds)
    for caller in callers:
        caller.stopping = True
    await asyncio.gather(*(caller.stopped for caller in callers))
    elapsed = time.perf_counter() - started
    cpu_s = (sum(watched.cpu_times()[:2]) if watched else 0.0) - before
    for caller in callers:
        caller._transport.close()  # type: ignore[attr-defined]
    latencies = sorted(latency for caller in callers for latency in caller.latencies)
    count = len(latencies)
    return {
        "requests_per_s": count / elapsed,
        "cpu_us_per_request": cpu_s / count * 1e6,
        "p50_ms": latencies[count // 2] * 1e3,
        "p99_ms": latencies[int(count * 0.99)] * 1e3,
    }


def _measure(
    competitors: list[Competitor], args: argparse.Namespace
) -> dict[str, dict[str, list[dict[str, float]]]]:
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    for case, path, size in (("small", "/small", len(SMALL)), ("1 MiB", "/large", len(LARGE))):
        clients = args.clients if case == "small" else 4
        for _ in range(args.rounds):
            for competitor in competitors:
                run = uvloop.run(_load(competitor, path, size, clients, args.seconds))
                results.setdefault(case, {}).setdefault(competitor.name, []).append(run)
    return results


def _table(results: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    lines: list[str] = []
    for case, by_name in results.items():
        direct = _median(by_name["direct"], "requests_per_s")
        lines.append(f"{case:<16}{'requests/s (min..max)':>28}  of direct  CPU us/req   p50 ms   p99 ms")
        for name, runs in by_name.items():
            rates = [run["requests_per_s"] for run in runs]
            rate = statistics.median(rates)
            spread = f"{rate:,.0f} ({min(rates):,.0f}..{max(rates):,.0f})"
            cpu = "-" if name == "direct" else f"{_median(runs, 'cpu_us_per_request'):.1f}"
            p50, p99 = _median(runs, "p50_ms"), _median(runs, "p99_ms")
            lines.append(f"{name:<16}{spread:>28}  {rate / direct:>9.2f}  {cpu:>10} {p50:>8.2f} {p99:>8.2f}")
    return "\n".join(lines)


def _median(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--out", type=Path, default=None, help="folder for proxy.txt and proxy.json")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        uds = str(folder / "api.sock")
        _, upstream = stack.enter_context(_process(_serve_upstream, uds))
        pid, port = stack.enter_context(_process(_serve_gateway, uds, upstream))
        nginx = stack.enter_context(_nginx(folder, upstream))
        others = [nginx] if nginx else []
        if importlib.util.find_spec("aiohttp"):
            aiohttp_pid, aiohttp_port = stack.enter_context(_process(_serve_aiohttp, upstream))
            others.append(Competitor("aiohttp proxy", aiohttp_port, "", aiohttp_pid))
        competitors = [
            Competitor("direct", upstream, "", None),
            Competitor("gateway to API", port, "", pid),
            Competitor("to deployment", port, "/d/lab/m", pid),
        ]
        results = _measure([*competitors, *others], args)
    machine = f"{platform.machine()}, {psutil.cpu_count()} CPUs, Python {platform.python_version()}, uvloop"
    load = f"{args.clients} clients (1 MiB: 4), {args.rounds} rounds of {args.seconds:g} s, "
    load += f"load average {psutil.getloadavg()[0]:.1f}"
    text = f"{machine}; {load}\n{_table(results)}\n"
    print(text, end="")
    if args.out is not None:
        (args.out / "proxy.txt").write_text(text)
        (args.out / "proxy.json").write_text(
            json.dumps({"machine": machine, "load": load, "runs": results}, indent=1)
        )


if __name__ == "__main__":
    main()
