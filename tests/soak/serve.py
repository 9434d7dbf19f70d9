"""A service under mixed load and steady misfortune: nothing may leak, hang or go unanswered.

`make soak` runs it for ten minutes: it loads a server of several APIs with plain calls,
batches, streams that are left in the middle, bodies of a megabyte, slow readers and malformed requests, while
workers are killed every few seconds. It fails when a request hangs or is answered with anything that its sort
does not allow, when memory, files or processes grow, or when the server does not end cleanly.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from blixt.serve import API, Server
from blixt.serve.testing import RunningServer, running, wait_until

ANSWER_S = 60.0
"""No request may take longer: the server's own time-out and its grace lie well below."""
KILL_EVERY_S = 3.0


class Echo(API):
    """Plain calls."""

    def predict(self, x: Any) -> Any:
        return x


class Rows(API):
    """Batches."""

    api_path = "/batch"

    def predict(self, batch: list[int]) -> list[int]:
        time.sleep(0.002)
        return [value + 1 for value in batch]


class Count(API):
    """Streams."""

    api_path = "/count"
    stream = True

    def predict(self, n: int) -> Iterator[int]:
        for value in range(n):
            time.sleep(0.001)
            yield value


class Size(API):
    """Large bodies."""

    api_path = "/size"

    def predict(self, body: bytes) -> int:
        return len(body)


@dataclass
class Seen:
    """What came back."""

    statuses: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])
    slowest_s: float = 0.0

    def note(self, sort: str, status: int, allowed: set[int]) -> None:
        """Count an answer; one that its sort does not allow is a failure."""
        self.statuses[f"{sort} {status}"] += 1
        if status not in allowed:
            self.wrong.append(f"{sort} was answered with {status}")


Client = Callable[[httpx.AsyncClient, RunningServer, Seen], Awaitable[None]]
# A worker that is killed answers what it had begun with 503.
SOUND = {200, 503}


async def plain(http: httpx.AsyncClient, service: RunningServer, seen: Seen) -> None:
    """One value there and back."""
    value = random.randrange(10**6)
    answer = await http.post(f"{service.url}/predict", json=value)
    seen.note("plain", answer.status_code, SOUND)
    if answer.status_code == 200 and answer.json() != value:
        seen.wrong.append(f"{value} came back as {answer.text}")


async def batched(http: httpx.AsyncClient, service: RunningServer, seen: Seen) -> None:
    """A value in whatever batch it lands."""
    value = random.randrange(10**6)
    answer = await http.post(f"{service.url}/batch", json=value)
    seen.note("batch", answer.status_code, SOUND)
    if answer.status_code == 200 and answer.json() != value + 1:
        seen.wrong.append(f"{value} in a batch came back as {answer.text}")


async def streamed(http: httpx.AsyncClient, service: RunningServer, seen: Seen) -> None:
    """A stream; every third client leaves in the middle, every fifth reads slowly."""
    leaves, slow = random.random() < 1 / 3, random.random() < 1 / 5
    expected, text = 50, ""
    async with http.stream("POST", f"{service.url}/count", json=expected) as answer:
        seen.note("stream", answer.status_code, SOUND)
        async for piece in answer.aiter_text():
            text += piece
            if leaves:
                return
            if slow:
                await asyncio.sleep(0.01)
    values = [line for line in text.split("\n\n") if line]
    if answer.status_code == 200 and len(values) != expected and "event: error" not in text:
        seen.wrong.append(f"a stream ended after {len(values)} of {expected} pieces without an error event")


async def large(http: httpx.AsyncClient, service: RunningServer, seen: Seen) -> None:
    """A megabyte."""
    size = random.randrange(2**20)
    answer = await http.post(f"{service.url}/size", content=bytes(size))
    seen.note("large", answer.status_code, SOUND)
    if answer.status_code == 200 and answer.json() != size:
        seen.wrong.append(f"{size} bytes were counted as {answer.text}")


async def malformed(http: httpx.AsyncClient, service: RunningServer, seen: Seen) -> None:
    """Requests that are the client's fault."""
    path, body, status = random.choice(
        [
            ("/predict", b"{", 400),
            ("/batch", b'"x"', 422),
            ("/nope", b"{}", 404),
            ("/count", b'{"a": 1}', 422),
        ]
    )
    answer = await http.post(service.url + path, content=body)
    seen.note("malformed", answer.status_code, {status, 503})


CLIENTS: list[Client] = [plain] * 6 + [batched] * 4 + [streamed] * 3 + [large] * 2 + [malformed]


async def load(service: RunningServer, until: float, seen: Seen) -> None:
    """One client after another, of random sorts."""
    async with httpx.AsyncClient(timeout=ANSWER_S) as http:
        while time.monotonic() < until:
            began, client = time.monotonic(), random.choice(CLIENTS)
            try:
                await client(http, service, seen)
            except httpx.HTTPError as error:
                seen.wrong.append(f"{client.__name__}: {type(error).__name__} {error}")
            seen.slowest_s = max(seen.slowest_s, time.monotonic() - began)


async def misfortune(service: RunningServer, until: float) -> int:
    """Kill a worker every few seconds, however short the time; return how many."""
    killed, every_s = 0, min(KILL_EVERY_S, (until - time.monotonic()) / 3)
    while (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(every_s, left))
        pids = await asyncio.to_thread(service.worker_pids)
        if pids:
            os.kill(random.choice(pids), signal.SIGKILL)
            killed += 1
    return killed


@dataclass(frozen=True)
class Vitals:
    """What may not grow."""

    rss_mb: float
    files: int
    processes: int

    @classmethod
    def of(cls, service: RunningServer) -> "Vitals":
        """The front's memory and open files, and how many workers there are."""
        front = Path(f"/proc/{service.process.pid}")
        pages = int((front / "statm").read_text().split()[1])
        return cls(
            rss_mb=pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
            files=len(list((front / "fd").iterdir())),
            processes=len(service.worker_pids()),
        )


def soak(seconds: float, clients: int = 12) -> dict[str, Any]:
    """Run it all.

    Returns:
        What was seen.

    Raises:
        AssertionError: Something went wrong that must not.
    """
    apis = [Echo(), Rows(max_batch_size=16, batch_timeout_s=0.005), Count(), Size()]
    server = Server(apis, accelerator="cpu", workers_per_device=2, timeout_s=30)
    with running(server) as service:
        seen = Seen()
        asyncio.run(_phase(service, seconds / 5, clients, seen))
        settle(service)
        before = Vitals.of(service)
        killed = asyncio.run(_phase(service, seconds * 4 / 5, clients, seen))
        settle(service)
        after = Vitals.of(service)
        code = service.terminate()
    report = {
        "seconds": seconds,
        "answers": dict(sorted(seen.statuses.items())),
        "killed": killed,
        "slowest_s": round(seen.slowest_s, 3),
        "before": vars(before),
        "after": vars(after),
        "wrong": seen.wrong[:20],
    }
    print(json.dumps(report, indent=2))
    assert not seen.wrong, seen.wrong[:20]
    assert killed > 0
    assert after.processes == before.processes
    assert after.files <= before.files + clients, "open files grow"
    assert after.rss_mb <= before.rss_mb * 1.25 + 16, "the front's memory grows"
    assert code == 0, f"the server ended with {code}"
    return report


async def _phase(service: RunningServer, seconds: float, clients: int, seen: Seen) -> int:
    until = time.monotonic() + seconds
    killer = asyncio.create_task(misfortune(service, until))
    await asyncio.gather(*(load(service, until, seen) for _ in range(clients)))
    return await killer


def settle(service: RunningServer) -> None:
    """Wait until every worker is back and nothing is in flight."""
    service.wait_ready(120)
    wait_until(lambda: len(service.worker_pids()) == 8, 120, "all workers to be back")
    wait_until(lambda: service.metric("blixt_serve_in_flight") == 0, 60, "nothing to be in flight")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    sys.exit(0 if soak(parser.parse_args().seconds) else 1)
