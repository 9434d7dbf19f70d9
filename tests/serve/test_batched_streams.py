"""A batch of streams in step, and continuous batching."""

import threading

import pytest

from blixt.serve import API, ConfigError, HTTPError, Output
from blixt.serve.plan import make_plan
from blixt.serve.wire import Kind

from .loop_rig import worker


class Steps(API):
    stream = True
    max_batch_size = 4

    def __init__(self, **options):
        super().__init__(**options)
        self.gate = threading.Semaphore(0)
        self.closed = threading.Event()
        self.made = 0

    def predict(self, xs: list[int]):
        try:
            for step in range(3):
                self.gate.acquire(timeout=60)
                self.made += 1
                if 99 in xs:
                    raise HTTPError(409, "spoilt")
                yield [x * 10 + step for x in xs]
        finally:
            self.closed.set()

    def open(self, steps=100):
        self.gate.release(steps)


def test_every_request_of_a_batch_gets_its_own_pieces():
    api = Steps()
    api.open()
    with worker(api) as (front, page):
        front.send((1, Kind.REQUEST, b"1"), (2, Kind.REQUEST, b"2"))
        got = [front.next() for _ in range(8)]
        assert page.started == 2
    assert [p for i, k, p in got if (i, k) == (1, Kind.CHUNK)] == [b"10", b"11", b"12"]
    assert [p for i, k, p in got if (i, k) == (2, Kind.CHUNK)] == [b"20", b"21", b"22"]
    assert [i for i, k, _ in got if k == Kind.END] == [1, 2]


def test_one_that_leaves_is_ended_at_once_and_the_others_go_on():
    api = Steps()
    with worker(api) as (front, _):
        front.send((1, Kind.REQUEST, b"1"), (2, Kind.REQUEST, b"2"))
        api.open(1)
        assert {front.next()[0], front.next()[0]} == {1, 2}
        front.send((1, Kind.CANCEL, b""))
        api.open(1)
        assert front.until(1, Kind.END)[-1] == (Kind.END, b"")
        api.open()
        assert front.until(2, Kind.END)[-1] == (Kind.END, b"")


def test_when_all_have_left_the_generator_is_closed():
    api = Steps()
    with worker(api) as (front, _):
        front.send((1, Kind.REQUEST, b"1"))
        api.open(1)
        front.next()
        front.send((1, Kind.CANCEL, b""))
        api.open(1)
        assert front.until(1, Kind.END)
        assert api.closed.wait(60)
        assert api.made <= 2


def test_an_error_in_a_batch_of_streams_reaches_every_request_and_the_next_batch_is_served():
    api = Steps()
    api.open()
    with worker(api) as (front, _):
        front.send((1, Kind.REQUEST, b"99"), (2, Kind.REQUEST, b"2"))
        assert [front.next()[1], front.next()[1]] == [Kind.ERROR, Kind.ERROR]
        assert front.ask(b"3", id=3) == (Kind.END, b"")


def test_a_step_with_too_few_outputs_is_an_error_that_says_so(caplog):
    class Short(Steps):
        def predict(self, xs: list[int]):
            yield [1]

    with worker(Short()) as (front, _):
        front.send((1, Kind.REQUEST, b"1"), (2, Kind.REQUEST, b"2"))
        assert front.next()[1] == Kind.ERROR
        front.next()
    assert "made 1 outputs of a batch of 2" in caplog.text


def test_encode_response_as_a_generator_sees_the_steps():
    class Encoded(Steps):
        def encode_response(self, steps):
            for pieces in steps:
                yield [{"n": piece} for piece in pieces]

    api = Encoded()
    api.open()
    with worker(api) as (front, _):
        front.send((1, Kind.REQUEST, b"1"))
        assert front.next() == (1, Kind.CHUNK, b'{"n":10}')


class Countdown(API):
    """A tiny engine: counts each sequence down, all in one step."""

    stream = True

    def __init__(self, capacity=2, **options):
        super().__init__(**options)
        self.capacity = capacity
        self.sequences = {}
        self.widths = []
        self.removed = []

    def add_request(self, uid, n):
        if n > 1000:
            raise HTTPError(413, "too long")
        self.sequences[uid] = n

    def remove_request(self, uid):
        self.removed.append(uid)
        self.sequences.pop(uid, None)

    def has_capacity(self):
        return len(self.sequences) < self.capacity

    def has_active_requests(self):
        return bool(self.sequences)

    def step(self, previous):
        self.widths.append(len(self.sequences))
        outputs = []
        for uid in list(self.sequences):
            self.sequences[uid] -= 1
            left = self.sequences[uid]
            outputs.append(Output(uid, left, finished=left <= 0))
            if left <= 0:
                del self.sequences[uid]
        return outputs


def test_requests_join_and_leave_a_running_batch():
    api = Countdown()
    with worker(api) as (front, _):
        front.send((1, Kind.REQUEST, b"3"), (2, Kind.REQUEST, b"1"), (3, Kind.REQUEST, b"2"))
        got = [front.next() for _ in range(9)]
    assert [p for i, k, p in got if (i, k) == (1, Kind.CHUNK)] == [b"2", b"1", b"0"]
    assert [i for i, k, _ in got if k == Kind.END].index(2) == 0
    assert max(api.widths) == 2, "the capacity was passed"


def test_a_request_that_cannot_be_added_fails_alone():
    with worker(Countdown()) as (front, _):
        front.send((1, Kind.REQUEST, b"2000"), (2, Kind.REQUEST, b"1"))
        assert front.next()[:2] == (1, Kind.ERROR)
        assert front.until(2, Kind.END)


def test_a_step_that_raises_fails_those_in_it_and_the_next_are_served():
    class Breaks(Countdown):
        def step(self, previous):
            if 7 in self.sequences.values():
                raise RuntimeError("out of memory")
            return super().step(previous)

    with worker(Breaks()) as (front, _):
        assert front.ask(b"7")[0] == Kind.ERROR
        assert front.ask(b"1", id=2) == (Kind.END, b"")


def test_a_cancelled_request_is_removed_from_the_engine():
    api = Countdown(capacity=1)
    with worker(api) as (front, _):
        front.send((1, Kind.REQUEST, b"1000"))
        front.next()
        front.send((1, Kind.CANCEL, b""))
        assert front.until(1, Kind.END)[-1] == (Kind.END, b"")
        assert front.ask(b"1", id=2) == (Kind.END, b"")
    assert api.removed[0] == "1"


def test_an_api_with_predict_and_has_finished_is_stepped_for():
    class Tokens(API):
        stream = True
        loop = "continuous"
        max_batch_size = 8

        def predict(self, inputs, generated):
            return [i + len(g) for i, g in zip(inputs, generated, strict=True)]

        def has_finished(self, uid, token, max_sequence_length):
            return token >= 5

    with worker(Tokens()) as (front, _):
        front.send((1, Kind.REQUEST, b"3"))
        assert front.until(1, Kind.END) == [(Kind.CHUNK, b"3"), (Kind.CHUNK, b"4"), (Kind.END, b"")]


def test_continuous_batching_must_stream_and_know_how():
    class Nothing(API):
        loop = "continuous"
        stream = True

        def predict(self, x):
            return x

    with pytest.raises(ConfigError, match="add_request"):
        make_plan(Nothing())
    with pytest.raises(ConfigError, match="stream=True"):
        make_plan(Countdown(stream=False))
