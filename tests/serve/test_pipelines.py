"""Stages with workers of their own, and APIs that call each other: real processes, real HTTP."""

import asyncio
import os
import signal

import httpx
import pytest

from blixt.serve import Limits, Pipeline, Server
from blixt.serve.testing import running, wait_until

from .shm import Values
from .worker_apis import (
    ArrayAsker,
    Asker,
    AsyncAsker,
    Doubler,
    Incrementer,
    Label,
    Resize,
    SelfAsker,
    Spell,
    Sum,
    Ticks,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def service():
    pipeline = Pipeline([Resize(), Sum(), Label()], workers=[2, 1, 1], accelerators=["cpu"] * 3)
    streamed = Pipeline([Resize(), Sum(), Spell()], api_path="/spell")
    others = [Asker(), AsyncAsker(), Doubler(), ArrayAsker(), Incrementer(), SelfAsker(), Ticks()]
    limits = Limits(drain_s=1, stop_s=1)  # one of them still waits for itself in the end
    with running(Server([pipeline, streamed, *others], accelerator="cpu", limits=limits)) as running_service:
        yield running_service


def post(service, path, body, **headers):
    return httpx.post(f"{service.url}{path}", json=body, headers=headers, timeout=60)


def until_nothing_left(service):
    wait_until(Values(service).nothing_left, 60, "the values to be gone")


def test_a_request_goes_through_every_stage_in_workers_of_their_own(service):
    answer = post(service, "/predict", 10).json()
    assert answer["sum"] == 200.0
    assert answer["label"] == "many"
    assert answer["warmed"] == 1, "the last stage was not warmed up with its example"
    assert len(set(answer["pids"])) == 3


def test_a_large_value_travels_between_stages_and_leaves_nothing_behind(service):
    assert post(service, "/predict", 500).json()["sum"] == 500 * 500 * 2.0
    until_nothing_left(service)


async def test_stages_batch_what_arrives_together(service):
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        answers = await asyncio.gather(*(client.post("/predict", json=3) for _ in range(40)))
    assert all(answer.json()["sum"] == 18.0 for answer in answers)


def test_an_error_in_a_stage_is_the_answer(service):
    answer = post(service, "/predict", -1)
    assert (answer.status_code, answer.json()["detail"]) == (422, "a size below zero")
    assert post(service, "/predict", "x").status_code == 422


def test_the_last_stage_may_stream(service):
    events = post(service, "/spell", 2).text.split()
    assert [event for event in events if event != "data:"] == ['"sum"', '"is"', '"8.0"']


def test_a_worker_of_a_stage_that_is_killed_is_replaced(service):
    victim = post(service, "/predict", 1).json()["pids"][1]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: post(service, "/predict", 1).status_code == 200, 60, "the stage to answer again")
    assert victim not in post(service, "/predict", 1).json()["pids"]


def test_an_api_calls_another_by_class_name_or_path(service):
    for name in ("Doubler", "/doubler", "doubler"):
        assert post(service, "/asker", {"api": name, "x": 4}).json()["answer"] == 8


def test_a_calls_error_is_raised_in_the_caller_and_answered(service):
    answer = post(service, "/asker", {"api": "Doubler", "x": -1})
    assert (answer.status_code, answer.json()["detail"]) == (422, "below zero")
    assert answer.headers["x-why"] == "sign"


def test_a_call_to_an_unknown_api_says_which_there_are(service):
    answer = post(service, "/asker", {"api": "Tripler", "x": 1})
    assert answer.status_code == 404
    assert "'Tripler'" in answer.json()["detail"]
    assert "Doubler" in answer.json()["detail"]


def test_a_call_to_a_stream_is_refused(service):
    assert post(service, "/asker", {"api": "Ticks", "x": 2}).status_code == 502


def test_an_async_api_calls_several_at_once(service):
    assert post(service, "/async-asker", {"api": "Doubler", "xs": [1, 2, 3]}).json() == {"answers": [2, 4, 6]}


def test_a_pipeline_can_be_called_and_answers_with_its_value(service):
    answer = post(service, "/asker", {"api": "Pipeline", "x": 10}).json()["answer"]
    assert (answer["sum"], answer["label"]) == (200.0, "many")


def test_large_arrays_travel_in_calls_and_are_the_receivers_own(service):
    assert post(service, "/array-asker", 100_000).json() == [100_000, 100_000.0]
    until_nothing_left(service)


def test_a_call_that_can_never_be_answered_ends_at_the_deadline(service):
    assert post(service, "/self", 1, **{"x-timeout-s": "2"}).status_code == 504
    wait_until(lambda: post(service, "/doubler", 1).status_code == 200, 60, "the others to answer")


def test_without_a_server_a_call_says_so():
    with pytest.raises(Exception, match="works only while a server runs"):
        Asker().predict({"api": "Doubler", "x": 1})
    assert Pipeline([Doubler(), Doubler()]).predict(2.0) == 8.0
