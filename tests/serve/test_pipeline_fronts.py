"""Pipelines below several fronts: every front knows every stage, and bad luck ends nobody else's work."""

import asyncio
import os
import signal
import time

import httpx
import psutil
import pytest

from blixt.serve import Limits, Pipeline, Server
from blixt.serve.testing import running, wait_until

from .shm import Values
from .worker_apis import Spell, Stage

pytestmark = pytest.mark.anyio
TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def service():
    pipeline = Pipeline([Stage("cut"), Stage("think"), Stage("write", last=True)], workers=[2, 1, 1])
    spelled = Pipeline([Stage("cut"), Spell()], api_path="/spell")
    limits = Limits(kill_grace_s=0.5)
    server = Server([pipeline, spelled], accelerator="cpu", timeout_s=TIMEOUT_S, limits=limits, fronts=2)
    with running(server) as running_service:
        yield running_service


async def until_nothing_left(service):
    await asyncio.to_thread(wait_until, Values(service).nothing_left, 60, "the values to be gone")


async def post(service, item, path="/predict", **kwargs):
    """On a connection of its own, so that any front may get it."""
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        return await client.post(path, json=item, **kwargs)


async def until(path):
    await asyncio.to_thread(wait_until, path.exists, 60, str(path))


async def answers_again(service, tmp_path):
    """Wait until the pipeline answers, whichever front is asked."""
    deadline = time.monotonic() + 120
    good = 0
    while good < 6:
        good = good + 1 if (await post(service, {"folder": str(tmp_path)})).status_code == 200 else 0
        assert time.monotonic() < deadline, "the pipeline did not heal"


async def test_all_fronts_reach_all_stages_and_large_values_leave_nothing_behind(service, tmp_path):
    item = {"folder": str(tmp_path)}
    answers = await asyncio.gather(*(post(service, item, headers={"x-who": "me"}) for _ in range(24)))
    assert {answer.status_code for answer in answers} == {200}
    for answer in map(httpx.Response.json, answers):
        assert (answer["sum"], answer["who"], len(set(answer["pids"]))) == (100_000.0, "me", 3)
    spelled = await asyncio.gather(*(post(service, {**item, "sum": 8.0}, "/spell") for _ in range(6)))
    assert all('"8.0"' in answer.text for answer in spelled)
    await until_nothing_left(service)
    assert service.metric("blixt_serve_workers_ready", api="/predict") == 4


async def test_kill_9_of_a_stages_worker_fails_what_it_had_begun_and_nothing_else(service, tmp_path):
    before = (await post(service, {"folder": str(tmp_path)})).json()["pids"]
    (tmp_path / "think began").unlink()
    held = {"folder": str(tmp_path), "held": ["think"]}
    begun = asyncio.create_task(post(service, held))
    await until(tmp_path / "think began")
    waiting = [asyncio.create_task(post(service, {"folder": str(tmp_path)})) for _ in range(6)]
    await asyncio.to_thread(
        wait_until, lambda: service.metric("blixt_serve_in_flight", api="/predict") == 7, 60, "all to wait"
    )
    os.kill(before[1], signal.SIGKILL)
    assert (await begun).status_code == 503
    assert [(await task).status_code for task in waiting] == [200] * 6
    after = (await post(service, {"folder": str(tmp_path)})).json()["pids"]
    assert after[1] != before[1]
    assert after[2] == before[2]
    await until_nothing_left(service)


async def test_what_a_client_that_leaves_had_asked_for_reaches_no_later_stage(service, tmp_path):
    item = {"folder": str(tmp_path), "held": ["cut"]}
    asking = asyncio.create_task(post(service, item))
    await until(tmp_path / "cut began")
    asking.cancel()
    cancelled = "blixt_serve_requests_cancelled_total"
    await asyncio.to_thread(
        wait_until, lambda: service.metric(cancelled, api="/predict") >= 1, 60, "the front to notice"
    )
    (tmp_path / "cut may go").touch()
    await answers_again(service, other_folder(tmp_path))
    assert not (tmp_path / "think began").exists()
    await until_nothing_left(service)


async def test_the_deadline_is_one_for_all_stages_and_the_hung_worker_is_replaced(service, tmp_path):
    item = {"folder": str(tmp_path), "held": ["cut", "think"]}
    began = time.monotonic()
    asking = asyncio.create_task(post(service, item, headers={"x-timeout-s": "3"}))
    await until(tmp_path / "cut began")
    (tmp_path / "cut may go").touch()
    answer = await asking
    assert (answer.status_code, answer.json()["detail"]) == (504, "No answer within 3 s.")
    assert time.monotonic() - began < TIMEOUT_S, "each stage had a deadline of its own"
    await answers_again(service, other_folder(tmp_path))
    await until_nothing_left(service)


async def test_kill_9_of_a_front_takes_its_values_with_it(service, tmp_path):
    item = {"folder": str(tmp_path), "held": ["think"]}
    asking = asyncio.create_task(post(service, item))
    await until(tmp_path / "think began")
    # A second value waits in shared memory for the stage that is held, below a front that dies.
    waiting = [asyncio.create_task(post(service, {"folder": str(tmp_path)})) for _ in range(6)]
    await asyncio.to_thread(
        wait_until, lambda: service.metric("blixt_serve_in_flight", api="/predict") == 7, 60, "all to wait"
    )
    values = Values(service)
    for front in fronts_of(service):
        front.kill()
    outcomes = await asyncio.gather(asking, *waiting, return_exceptions=True)
    assert all(isinstance(outcome, httpx.TransportError) for outcome in outcomes)
    (tmp_path / "think may go").touch()
    await asyncio.to_thread(wait_until, lambda: len(fronts_of(service)) == 2, 60, "two fronts again")
    await answers_again(service, tmp_path)
    values.age(TIMEOUT_S)
    await asyncio.to_thread(wait_until, values.nothing_left, 60, "the dead front's values to be swept away")


def other_folder(path):
    other = path / "other"
    other.mkdir()
    return other


def fronts_of(service):
    port = httpx.URL(service.url).port
    family = psutil.Process(service.process.pid).children()
    return [child for child in family if port in ports_of(child)]


def ports_of(process):
    try:
        return {connection.laddr.port for connection in process.net_connections("tcp")}
    except psutil.Error:  # it has just ended
        return set()
