"""What `blixt serve bench` does: rounds against a service, which it starts itself when given a file."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from blixt.cli.failure import CliError
from blixt.cli.output import console, print_table
from blixt.serve.bench import Round, Summary, Target, latency_curve, run_round, summarise
from blixt.serve.bench.cpu import tree_cpu_s
from blixt.serve.client import Client, ClientError

START_S = 120.0
WARM_UP_S = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send, how often, for how long."""

    path: str
    body: bytes
    headers: dict[str, str]
    concurrency: Sequence[int]
    seconds: float
    rate: float | None
    pid: int | None


Measured = list[tuple[Summary, Round]]


def measure(service: str, plan: Plan, say: Callable[[str], None]) -> Measured:
    """Run every round; before the first the service is warmed up."""
    with _reachable(service) as (url, pid):
        target = Target(_route(url, plan.path), plan.body, plan.headers)
        say(f"POST {target.url}, {len(plan.body)} bytes, {plan.seconds:g} s a round")
        asyncio.run(_round(target, 1, WARM_UP_S, None))
        measured: Measured = []
        for count in plan.concurrency:
            before = _cpu(plan.pid or pid)
            seen = asyncio.run(_round(target, count, plan.seconds, plan.rate))
            after = _cpu(plan.pid or pid)
            if before is not None and after is not None:
                seen.cpu_seconds = after - before
            measured.append((summarise(seen), seen))
        return measured


def show(measured: Measured) -> None:
    """A line for each round, then the curve."""
    streams = any(line.pieces_per_second for line, _ in measured)
    names = ["load", ">req/s", ">p50 ms", ">p90 ms", ">p99 ms", ">max ms", ">failed", ">cpu us/req"]
    if streams:
        names += [">first p50 ms", ">pieces/s", ">cpu us/piece"]
    rows: list[list[str]] = []
    for line, _ in measured:
        cells = [line.per_second, line.p50_ms, line.p90_ms, line.p99_ms, line.max_ms, line.failed]
        cells.append(line.cpu_us_per_request)
        if streams:
            cells += [line.first_p50_ms, line.pieces_per_second, line.cpu_us_per_piece]
        rows.append([_load_name(line), *map(_cell, cells)])
    print_table(names, rows, empty="Nothing was measured.")
    wrong: Counter[str] = Counter()
    for line, _ in measured:
        wrong.update({status: count for status, count in line.statuses.items() if status != "200"})
    if wrong:
        console().print(f"answers that were not 200: {dict(wrong)}", markup=False)
    if all(seen.cpu_seconds is None for _, seen in measured):
        console().print("CPU time: give --pid of the server to measure it", style="dim")
    console().print(
        latency_curve([(_load_name(line), seen.latencies) for line, seen in measured]), markup=False
    )


async def _round(target: Target, concurrency: int, seconds: float, rate: float | None) -> Round:
    try:
        return await run_round(target, concurrency, seconds, rate)
    except OSError as error:
        raise CliError(f"{target.url} cannot be reached: {error}.", "Is the server running?") from None


@contextmanager
def _reachable(service: str) -> Generator[tuple[str, int | None], None, None]:
    """The address of a service and its process; a file is served for as long as this lasts."""
    if service.startswith(("http://", "https://")):
        yield service, None
        return
    if not Path(service).is_file():
        raise CliError(f"{service!r} is neither an address nor a file.", "Give http://host:port or app.py.")
    words = [sys.executable, "-m", "blixt", "serve", service, "--port", "0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        url = _announced(process)
        try:
            Client(url).wait_ready(START_S)
        except ClientError as error:
            raise CliError(str(error)) from None
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(60)


def _announced(process: "subprocess.Popen[str]") -> str:
    """The address that the server prints first."""
    assert process.stdout is not None
    line = process.stdout.readline()
    words = [word for word in line.split() if word.startswith("http")]
    if not words:
        raise CliError("The file could not be served; see above.")
    return words[0]


def _route(url: str, path: str) -> str:
    return url if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/{path.lstrip('/')}"


def _cpu(pid: int | None) -> float | None:
    return None if pid is None else tree_cpu_s(pid)


def _load_name(line: Summary) -> str:
    return f"{line.rate:g}/s" if line.rate is not None else f"{line.concurrency} clients"


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
