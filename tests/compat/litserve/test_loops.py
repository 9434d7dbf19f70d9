"""LitServe's loops: in a server's workers, and run by hand."""

import asyncio
import json
import threading
import time
from queue import Queue

import pytest
from fastapi import HTTPException
from fastapi.testclient import TestClient
from tests.serve.loop_rig import worker

from blixt.compat import litserve as ls
from blixt.compat.litserve.adapter import adapt
from blixt.compat.litserve.callbacks import CallbackRunner
from blixt.compat.litserve.loops import (
    BatchedStreamingLoop,
    ContinuousBatchingLoop,
    SingleLoop,
    StreamingLoop,
    get_default_loop,
    inference_worker,
)
from blixt.compat.litserve.loops.collect import SENTINEL
from blixt.compat.litserve.transport import MPQueueTransport
from blixt.compat.litserve.utils import LitAPIStatus, WorkerSetupStatus, wrap_litserve_start
from blixt.serve.wire import Kind

from .loop_apis import Counting, Slow, ask, several


@pytest.fixture(scope="module")
def client():
    server = ls.LitServer(several(), accelerator="cpu", timeout=300)
    with wrap_litserve_start(server) as started, TestClient(started.app) as client:
        yield client


def test_a_loop_of_ones_own_serves_with_hooks_that_no_other_knows(client):
    first, second = (client.post("/tenfold", json={"input": n}).json() for n in (4, 5))
    assert (first["output"], second["output"]) == (40, 50)
    assert first["pid"] == second["pid"]


def test_what_such_a_loop_reports_is_answered_as_litserve_answers_it(client):
    assert client.post("/tenfold", json={"input": "teapot"}).status_code == 418
    refused = client.post("/tenfold", json={})
    assert (refused.status_code, "KeyError" in refused.text) == (500, False)


def test_litserves_batched_loop_may_be_asked_for(client):
    assert [answer.json() for answer in ask(client, "/together", {}, {})] == [2, 2]


def test_requests_join_and_leave_a_running_batch(client):
    answers = ask(client, "/counting", *({"n": n} for n in (3, 1, 5)))
    counted = [[json.loads(line)["output"] for line in answer.text.splitlines()] for answer in answers]
    assert counted == [[0, 1, 2], [0], [0, 1, 2, 3, 4]]


def test_a_litapi_that_predicts_the_next_token_is_stepped(client):
    answers = ask(client, "/tokens", {"word": "one."}, {"word": "seven."}, {"word": "."})
    assert [answer.text for answer in answers] == ["one.", "seven.", "."]


def test_a_request_whose_client_leaves_while_it_waits_is_never_begun():
    gate = threading.Event()
    slow = Slow(gate)
    slow.request_timeout = False
    with worker(adapt(slow)) as (front, _):
        front.send((1, Kind.REQUEST, b"1"), (2, Kind.REQUEST, b"2"), (3, Kind.REQUEST, b"3"))
        front.send((2, Kind.CANCEL, b""))
        assert front.next() == (2, Kind.END, b"")
        gate.set()
        assert [front.next() for _ in range(2)] == [(1, Kind.OK, b"1"), (3, Kind.OK, b"3")]
        assert slow.began == [1, 3]


# -- by hand ----------------------------------------------------------------------------------------------


def by_hand(loop, lit_api, *bodies, since=None):
    """A loop over a queue that ends; what it answered, as `(uid, data, status)`."""
    requests, answers = Queue(), Queue()
    for number, body in enumerate(bodies):
        requests.put((0, f"r{number}", since or time.monotonic(), body))
    requests.put(SENTINEL)
    lit_api.pre_setup()
    lit_api.setup("cpu")
    loop(lit_api, "cpu", 0, requests, MPQueueTransport(None, [answers]), {}, CallbackRunner())
    return [(uid, data, status) for uid, (data, status, _, _) in answers.queue]


class Squares(ls.test_examples.SimpleLitAPI):
    request_timeout = 60


class Letters(ls.LitAPI):
    request_timeout = 60

    def predict(self, x, context):
        context["x"] = x
        yield from x

    def encode_response(self, output, context):
        for letter in output:
            yield {"letter": letter, "of": context["x"]}


class Steps(ls.LitAPI):
    request_timeout = 60

    def predict(self, x):
        yield from zip(*x, strict=True)

    def encode_response(self, output):
        yield from output


def test_a_loop_answers_a_queue_until_its_sentinel_comes():
    answers = by_hand(SingleLoop(), Squares(), {"input": 3}, {"input": 4})
    assert answers == [("r0", {"output": 9}, "OK"), ("r1", {"output": 16}, "OK")]


def test_a_request_that_waited_too_long_is_told_so_and_logged(caplog):
    late = time.monotonic() - 3600
    ((uid, error, status),) = by_hand(SingleLoop(), Squares(), {"input": 3}, since=late)
    assert (uid, error.status_code, status) == ("r0", 504, LitAPIStatus.ERROR)
    assert "Request r0 was waiting in the queue for too long" in caplog.text


def test_streams_are_formatted_pieces_and_an_end():
    answers = by_hand(StreamingLoop(), Letters(stream=True), "ab")
    lines = [json.loads(data) for _, data, status in answers if status == LitAPIStatus.OK]
    assert lines == [{"letter": "a", "of": "ab"}, {"letter": "b", "of": "ab"}]
    assert answers[-1] == ("r0", "", LitAPIStatus.FINISH_STREAMING)


def test_streams_of_a_batch_go_on_in_step():
    api = Steps(stream=True, max_batch_size=2, batch_timeout=60)
    answers = by_hand(BatchedStreamingLoop(), api, "ab", "cd")
    assert [data for _, data, status in answers if status == LitAPIStatus.OK] == ["a", "c", "b", "d"]


@pytest.mark.anyio
async def test_a_transport_by_hand_waits_as_long_as_it_is_told():
    transport = MPQueueTransport(None, [Queue()])
    transport.send("x", consumer_id=0)
    assert await transport.areceive(0) == "x"
    transport.close()
    with pytest.raises(asyncio.CancelledError):
        await transport.areceive(0)


def test_each_kind_of_litapi_has_its_loop():
    kinds = [get_default_loop(*kind) for kind in ((False, 1), (False, 2), (True, 1), (True, 2))]
    names = [type(loop).__name__ for loop in kinds]
    assert names == ["SingleLoop", "BatchedLoop", "StreamingLoop", "BatchedStreamingLoop"]
    with pytest.raises(ValueError, match="Async batching"):
        get_default_loop(False, 2, enable_async=True)


def test_a_worker_by_hand_tells_how_its_setup_went(monkeypatch):
    monkeypatch.setenv("LITSERVE_WORKER_ID", "0")  # it sets it, and this puts it back

    class Broken(ls.LitAPI):
        def setup(self, device):
            raise RuntimeError("no model here")

    states = {}
    inference_worker(Broken(), "cpu", 3, Queue(), MPQueueTransport(None, []), states, CallbackRunner(), False)
    assert states == {"predict_3": WorkerSetupStatus.ERROR}


@pytest.mark.parametrize(
    ("api", "sentence"),
    [
        (lambda: Counting(loop=ContinuousBatchingLoop()), "requires streaming"),
        (lambda: Squares(stream=True, loop=ContinuousBatchingLoop()), "has no step"),
        (lambda: Squares(stream=True, loop=StreamingLoop()), "must generate values using `yield`"),
        (lambda: Letters(), "must not be"),
    ],
)
def test_a_litapi_that_does_not_fit_its_loop_is_refused(api, sentence):
    with pytest.raises(ValueError, match=sentence):
        ls.LitServer(api(), accelerator="cpu")


def test_an_error_by_hand_is_an_exception_as_it_is_or_pickled():
    class Refuses(Squares):
        def predict(self, x):
            raise HTTPException(418, "teapot")

    ((_, error, _),) = by_hand(SingleLoop(), Refuses(), {"input": 1})
    assert error.status_code == 418
