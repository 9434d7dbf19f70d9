"""Every loop of a worker meets bad ends: the request fails, its company ends, the next is answered."""

import asyncio
import ctypes
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from blixt.serve import API, Limits, Server
from blixt.serve.testing import running

pytestmark = pytest.mark.anyio
PATHS = ("/batches", "/streams", "/batched-streams", "/tasks")


def meet(end: str) -> str:
    """Come to an end, or return it."""
    match end:
        case "exit":
            sys.exit(3)
        case "segfault":
            ctypes.string_at(0)
        case "hang":
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            time.sleep(600)
        case "raise":
            raise RuntimeError("as it was told to")
    return end


class InBatches(API):
    api_path = "/batches"

    def __init__(self) -> None:
        super().__init__(max_batch_size=8, batch_timeout_s=0.2)

    def predict(self, batch: list[str]) -> list[str]:
        return [meet(end) for end in batch]


class InStreams(API):
    api_path = "/streams"
    stream = True

    def predict(self, end: str) -> Iterator[str]:
        yield meet(end)


class InBatchedStreams(API):
    api_path = "/batched-streams"
    stream = True

    def __init__(self) -> None:
        super().__init__(max_batch_size=4)

    def predict(self, batch: list[str]) -> Iterator[Any]:
        yield [meet(end) for end in batch]


class InTasks(API):
    api_path = "/tasks"

    async def predict(self, end: str) -> str:
        await asyncio.sleep(0)
        return meet(end)


@pytest.fixture(scope="module")
def service():
    apis = [InBatches(), InStreams(), InBatchedStreams(), InTasks()]
    limits = Limits(kill_grace_s=0.2, backoff_s=0.01)
    with running(Server(apis, accelerator="cpu", timeout_s=8, limits=limits)) as service:
        yield service


async def answered(client, path):
    """Ask until an answer comes: a worker that starts may take longer than the deadline allows."""
    async with asyncio.timeout(120):
        while (await client.post(path, json="fine")).status_code != 200:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(("end", "status"), [("raise", 500), ("exit", 503), ("segfault", 503), ("hang", 504)])
async def test_an_end_in_any_loop_fails_its_request_and_the_next_is_answered(service, end, status):
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:

        async def meets(path):
            await answered(client, path)
            got = (await client.post(path, json=end)).status_code
            await answered(client, path)
            return path, got

        assert dict(await asyncio.gather(*map(meets, PATHS))) == dict.fromkeys(PATHS, status)


async def test_those_in_a_batch_with_one_that_kills_the_worker_all_get_an_end(service):
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        await answered(client, "/batches")
        ends = ["fine", "fine", "exit", "fine"]
        async with asyncio.timeout(120):
            answers = await asyncio.gather(*(client.post("/batches", json=end) for end in ends))
        statuses = [answer.status_code for answer in answers]
        assert statuses[2] == 503
        assert set(statuses) <= {200, 503, 504}
        await answered(client, "/batches")
