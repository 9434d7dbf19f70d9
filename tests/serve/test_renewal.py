"""SIGHUP replaces the workers of a server in turn; nobody who asks meanwhile notices."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from blixt.serve import API, Limits, Server
from blixt.serve.testing import running, wait_until

pytestmark = pytest.mark.anyio


class Weights(API):
    """Answers with what its file said when it was set up, and with its process."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = file

    def setup(self, device: str) -> None:
        self.weights = Path(self.file).read_text()
        if self.weights == "broken":
            raise ValueError("these weights are broken")

    def predict(self, x: Any) -> Any:
        time.sleep(0.01)
        return [self.weights, os.getpid()]


async def ask_until(client, wanted):
    """Ask without a pause until the answers are as wanted; all that was answered."""
    answers = []
    async with asyncio.timeout(120):
        while not wanted(answers):
            got = await asyncio.gather(*(client.post("/predict", json=1) for _ in range(4)))
            answers += [(answer.status_code, *answer.json()) for answer in got]
    return answers


async def old_to_end(service, before):
    """Wait for the end of the workers that were there before."""
    await asyncio.to_thread(
        wait_until, lambda: not before & set(service.worker_pids()), 120, "the old workers to end"
    )


@pytest.mark.parametrize("fronts", [1, 2])
async def test_workers_are_replaced_in_turn_and_no_request_fails(tmp_path, fronts):
    file = tmp_path / "weights"
    file.write_text("old")
    server = Server(Weights(str(file)), accelerator="cpu", workers_per_device=2, fronts=fronts)
    with running(server) as service:
        before = set(service.worker_pids())
        file.write_text("new")
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            os.kill(service.process.pid, signal.SIGHUP)
            renewal = asyncio.create_task(old_to_end(service, before))
            answers = await ask_until(client, lambda _: renewal.done())
            await renewal
            last = await ask_until(client, lambda seen: len(seen) >= 40)
        assert {status for status, _, _ in [*answers, *last]} == {200}
        assert {weights for _, weights, _ in last} == {"new"}
        assert not before & {pid for _, _, pid in last}
        assert service.metric("blixt_serve_worker_restarts_total") == 0


async def test_a_successor_that_cannot_be_set_up_leaves_the_old_workers_at_work(tmp_path, capfd):
    file = tmp_path / "weights"
    file.write_text("old")
    limits = Limits(max_backoff_s=0.1)
    with running(Server(Weights(str(file)), accelerator="cpu", limits=limits)) as service:
        before = service.worker_pids()
        file.write_text("broken")
        os.kill(service.process.pid, signal.SIGHUP)
        told = []
        await asyncio.to_thread(
            wait_until,
            lambda: told.append(capfd.readouterr().err) or "these weights are broken" in "".join(told),
            60,
            "the failure to be told",
        )
        assert httpx.post(f"{service.url}/predict", json=1).json() == ["old", *before]
        file.write_text("mended")
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            await ask_until(client, lambda seen: bool(seen) and seen[-1][1] == "mended")
