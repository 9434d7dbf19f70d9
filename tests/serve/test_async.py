"""The async loop: side by side, with batches, streams, cancels and blocking hooks."""

import asyncio
import threading

import pytest

from blixt.serve import API, ConfigError, HTTPError
from blixt.serve.handoff import pack
from blixt.serve.plan import make_plan
from blixt.serve.plan_mode import Mode
from blixt.serve.wire import Kind

from .loop_rig import worker


class Meeting(API):
    """Answers only when two requests are there at once."""

    def __init__(self, **options):
        super().__init__(**options)
        self.present = 0
        self.complete = None

    async def predict(self, x: int) -> int:
        if self.complete is None:
            self.complete = asyncio.Event()
        self.present += 1
        if self.present == 2:
            self.complete.set()
        await self.complete.wait()
        return x * 10


def test_requests_of_an_async_api_run_side_by_side():
    with worker(Meeting()) as (front, _):
        front.send((1, Kind.REQUEST, b"1"), (2, Kind.REQUEST, b"2"))
        assert sorted([front.next(), front.next()]) == [(1, Kind.OK, b"10"), (2, Kind.OK, b"20")]


class Forever(API):
    def __init__(self):
        super().__init__()
        self.started = threading.Event()
        self.cancelled = threading.Event()

    async def predict(self, x):
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


def test_a_cancelled_request_is_cancelled_inside_predict_and_answered_end():
    api = Forever()
    with worker(api) as (front, page):
        front.send((1, Kind.REQUEST, b"1"))
        assert api.started.wait(60)
        front.send((1, Kind.CANCEL, b""))
        assert front.next() == (1, Kind.END, b"")
        assert api.cancelled.wait(60)
        assert page.started == 1


class Counter(API):
    stream = True

    def __init__(self, **options):
        super().__init__(**options)
        self.closed = threading.Event()

    async def predict(self, n: int):
        try:
            for i in range(n):
                await asyncio.sleep(0)
                yield i
        finally:
            self.closed.set()


def test_an_async_generator_streams_and_two_take_turns():
    with worker(Counter()) as (front, _):
        front.send((1, Kind.REQUEST, b"3"), (2, Kind.REQUEST, b"3"))
        got = [front.next() for _ in range(8)]
    assert [p for i, k, p in got if i == 1 and k == Kind.CHUNK] == [b"0", b"1", b"2"]
    order = [i for i, k, _ in got if k == Kind.CHUNK]
    assert order.index(2) < 3, "the second stream waited for the first"


def test_a_cancelled_async_stream_closes_its_generator():
    api = Counter()
    with worker(api) as (front, _):
        front.send((1, Kind.REQUEST, b"100000000"))
        assert front.next()[1] == Kind.CHUNK
        front.send((1, Kind.CANCEL, b""))
        assert front.until(1, Kind.END)[-1] == (Kind.END, b"")
        assert api.closed.wait(60)


def test_a_paused_async_stream_stands_until_it_is_resumed():
    with worker(Counter()) as (front, _):
        front.send((1, Kind.REQUEST, b"100000000"))
        front.next()
        front.send((1, Kind.PAUSE, b""))
        front.send((2, Kind.REQUEST, b"1"))  # its END says that the pause was read
        front.until(2, Kind.END)
        front.send((3, Kind.REQUEST, b"20"))
        between = []
        while not between or between[-1][:2] != (3, Kind.END):
            between.append(front.next())
        assert len([m for m in between if m[0] == 1]) <= 2
        front.send((1, Kind.RESUME, b""))
        assert front.until(1, Kind.CHUNK)
        front.send((1, Kind.CANCEL, b""))


class AsyncBatch(API):
    def __init__(self, **options):
        super().__init__(max_batch_size=4, **options)

    async def decode_request(self, x: int) -> int:
        if x < 0:
            raise HTTPError(422, "negative")
        return x

    async def predict(self, xs):
        await asyncio.sleep(0)
        return [x + len(xs) for x in xs]


def test_async_with_batching_answers_each_and_fails_only_the_bad_one():
    with worker(AsyncBatch()) as (front, _):
        front.send((1, Kind.REQUEST, b"1"), (2, Kind.REQUEST, b"-2"), (3, Kind.REQUEST, b"3"))
        got = {id: (kind, payload) for id, kind, payload in (front.next() for _ in range(3))}
    assert got[1] == (Kind.OK, b"3")
    assert got[2][0] == Kind.ERROR
    assert got[3] == (Kind.OK, b"5")


class AsyncBatchStream(API):
    stream = True

    def __init__(self):
        super().__init__(max_batch_size=4)

    async def predict(self, xs):
        for step in range(2):
            yield [[x, step] for x in xs]


def test_an_async_batch_of_streams_gives_every_request_its_pieces():
    with worker(AsyncBatchStream()) as (front, _):
        front.send((1, Kind.REQUEST, b"1"), (2, Kind.REQUEST, b"2"))
        got = [front.next() for _ in range(6)]
    assert [p for i, k, p in got if i == 2 and k == Kind.CHUNK] == [b"[2,0]", b"[2,1]"]
    assert [k for _, k, _ in got if k == Kind.END] == [Kind.END, Kind.END]


class Mixed(API):
    """A blocking predict beside an async decode: it must run outside the event loop's thread."""

    async def decode_request(self, x: int) -> int:
        self.loop_thread = threading.get_ident()
        return x

    def predict(self, x):
        return [x, threading.get_ident() == self.loop_thread]

    async def encode_response(self, output):
        return {"x": output[0], "in_loop": output[1]}


def test_a_blocking_predict_among_async_hooks_does_not_block_the_loop():
    with worker(Mixed()) as (front, _):
        assert front.ask(b"4") == (Kind.OK, b'{"x":4,"in_loop":false}')


def test_an_async_predict_that_raises_is_an_error_and_the_next_is_served():
    class Breaks(API):
        async def predict(self, x):
            if x == 1:
                raise HTTPError(418, "tea")
            return x

    with worker(Breaks()) as (front, _):
        kind, payload = front.ask(b"1")
        assert kind == Kind.ERROR
        assert b"tea" in payload
        assert front.ask(b"2", id=2) == (Kind.OK, b"2")


@pytest.mark.parametrize(
    ("enable_async", "predict_is_async", "sentence"),
    [(True, False, "write `async def predict`"), (False, True, "drop one of the two")],
)
def test_enable_async_and_hooks_that_disagree_are_refused(enable_async, predict_is_async, sentence):
    async def later(x):
        return x

    class Api(API):
        predict = staticmethod(later) if predict_is_async else (lambda self, x: x)

    with pytest.raises(ConfigError, match=sentence):
        make_plan(Api(enable_async=enable_async))


def test_async_hooks_are_noticed_without_being_told():
    assert make_plan(Mixed()).mode is Mode.ASYNC
    assert make_plan(AsyncBatch()).policy.slots == 16


def test_one_that_leaves_a_running_async_batch_is_ended_at_once_and_only_once():
    class Gate(API):
        max_batch_size = 4
        stream = True

        async def predict(self, xs):
            self.open = asyncio.Event()
            opened.append((asyncio.get_running_loop(), self.open))
            yield xs
            await self.open.wait()
            yield xs

    opened = []
    with worker(Gate()) as (front, _):
        front.send((1, Kind.REQUEST, b"1"), (2, Kind.REQUEST, b"2"))
        assert {front.next()[0], front.next()[0]} == {1, 2}
        front.send((1, Kind.CANCEL, b""))
        assert front.next() == (1, Kind.END, b"")
        loop, event = opened[0]
        loop.call_soon_threadsafe(event.set)
        assert [front.next(), front.next()] == [(2, Kind.CHUNK, b"2"), (2, Kind.END, b"")]


def test_a_blocking_predict_of_an_async_api_waits_for_a_call_in_its_thread():
    class Calls(API):
        async def decode_request(self, x):
            return x

        def predict(self, x):
            return self.call("Other", x)

    with worker(Calls()) as (front, _):
        front.send((1, Kind.REQUEST, b"1"))
        id, kind, _ = front.next()
        assert kind == Kind.CALL
        front.send((id, Kind.RESULT, bytes((Kind.PACKED,)) + pack(42)))
        assert front.next() == (1, Kind.OK, b"42")
