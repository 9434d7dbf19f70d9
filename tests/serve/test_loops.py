"""A worker's loops in a thread, the test at the other end of the socket."""

import queue
import threading

import pytest

from blixt.serve import API, Output
from blixt.serve.wire import Kind, encode

from .loop_rig import worker


class Gated(API):
    """Yields a number each time the gate lets it."""

    stream = True

    def __init__(self):
        super().__init__()
        self.gate = queue.Queue()
        self.made = 0
        self.closed = threading.Event()

    def predict(self, n):
        try:
            for i in range(n):
                self.gate.get(timeout=60)
                self.made += 1
                yield i
        finally:
            self.closed.set()


class Doubles(API):
    def predict(self, x: int) -> int:
        return 2 * x


def test_a_cancelled_stream_ends_at_most_one_piece_later():
    api = Gated()
    with worker(api) as (front, _):
        front.send((1, Kind.REQUEST, b"1000"))
        for i in range(3):
            api.gate.put(None)
            assert front.next() == (1, Kind.CHUNK, str(i).encode())
        front.send((1, Kind.CANCEL, b""))  # the generator is in the middle of its fourth piece
        for _ in range(100):
            api.gate.put(None)
        assert api.closed.wait(60)
        assert api.made <= 4


def test_a_paused_stream_stands_and_goes_on_where_it_was():
    api = Gated()
    with worker(api) as (front, _):
        front.send((1, Kind.REQUEST, b"5"))
        api.gate.put(None)
        assert front.next() == (1, Kind.CHUNK, b"0")
        front.send((1, Kind.PAUSE, b""))
        for _ in range(4):
            api.gate.put(None)
        front.send((2, Kind.REQUEST, b"0"))  # answered only once the pause was read
        got = [front.next()]
        while got[-1] != (2, Kind.END, b""):
            got.append(front.next())
        assert len([kind for _, kind, _ in got if kind == Kind.CHUNK]) <= 1
        front.send((1, Kind.RESUME, b""))
        while got[-1] != (1, Kind.END, b""):
            got.append(front.next())
        assert [payload for id, kind, payload in got if id == 1 and kind == Kind.CHUNK] == [
            b"1",
            b"2",
            b"3",
            b"4",
        ]


def test_requests_are_answered_in_order_and_counted_as_begun():
    with worker(Doubles()) as (front, page):
        front.send(*((i, Kind.REQUEST, str(i).encode()) for i in range(1, 6)))
        assert [front.next() for _ in range(5)] == [(i, Kind.OK, str(2 * i).encode()) for i in range(1, 6)]
        assert page.started == 5


def test_a_request_cancelled_while_it_waits_is_answered_end_and_not_computed():
    with worker(Doubles()) as (front, _):
        frame = encode([(1, Kind.REQUEST, b"1"), (2, Kind.REQUEST, b"2")]) + encode([(2, Kind.CANCEL, b"")])
        front.sock.sendall(frame)
        assert [front.next(), front.next()] == [(1, Kind.OK, b"2"), (2, Kind.END, b"")]


def test_the_context_tells_that_the_client_has_left():
    class Patient(API):
        def predict(self, x, context):
            started.set()
            for _ in range(1000):
                if context.cancelled:
                    noticed.set()
                    break
                left.wait(0.01)
            return x

    started, left, noticed = threading.Event(), threading.Event(), threading.Event()
    with worker(Patient()) as (front, _):
        front.send((1, Kind.REQUEST, b"1"))
        assert started.wait(60)
        front.send((1, Kind.CANCEL, b""))
        assert noticed.wait(60)
        assert front.next()[0] == 1


def test_the_context_of_a_batch_is_one_dict_a_request_and_travels_through_all_hooks():
    class Remembers(API):
        max_batch_size = 4

        def decode_request(self, x: int, context) -> int:
            context["x"] = x
            return x

        def predict(self, xs, context):
            for c in context:
                c["batch"] = len(xs)
            return xs

        def encode_response(self, output, context):
            return dict(context)

    with worker(Remembers()) as (front, _):
        front.send((1, Kind.REQUEST, b"1"), (2, Kind.REQUEST, b"2"))
        assert front.next() == (1, Kind.OK, b'{"x":1,"batch":2}')
        assert front.next() == (2, Kind.OK, b'{"x":2,"batch":2}')


def test_the_context_holds_what_the_api_asks_for():
    class Curious(API):
        context_fields = ("headers", "request_id", "path")

        def predict(self, x, context):
            return dict(context)

    meta = b'{"headers":[["x-a","1"]],"request_id":"r7","path":"/p"}'
    with worker(Curious()) as (front, _):
        front.send((1, Kind.META, meta), (1, Kind.REQUEST, b"1"))
        assert front.next() == (1, Kind.OK, b'{"headers":{"x-a":"1"},"request_id":"r7","path":"/p"}')
        assert front.ask(b"1", id=2) == (Kind.OK, b'{"headers":{},"request_id":"","path":""}')


def test_a_batch_answered_with_a_string_or_a_dict_is_warned_about():
    class Text(API):
        max_batch_size = 4

        def predict(self, xs):
            return "ab"

    def ask():
        with worker(Text()) as (front, _):
            front.send((1, Kind.REQUEST, b"1"), (2, Kind.REQUEST, b"2"))
            assert front.next() == (1, Kind.OK, b'"a"')
            front.next()

    with pytest.warns(UserWarning, match=r"Text\.predict returned a str for a batch"):
        ask()


def test_a_loop_of_ones_own_serves_in_place_of_ours():
    class Echoes:
        def run(self, plan, channel):
            while True:
                for frame in channel.receive(block=True):
                    for id, _, payload in frame:
                        channel.begin(id)
                        channel.answer(id, Kind.RAW, payload[::-1])
                channel.flush()

    class Own(API):
        def predict(self, x):
            return x

    with worker(Own(loop=Echoes())) as (front, _):
        assert front.ask(b"abc") == (Kind.RAW, b"cba")


class Turns(Gated):
    """Streams whose steps wait for gates of their own."""

    def __init__(self):
        super().__init__()
        self.gates = {name: queue.Queue() for name in ("quick", "slow", "third")}
        self.waits = {name: threading.Event() for name in self.gates}

    def predict(self, name):
        while True:
            self.waits[name].set()
            word = self.gates[name].get(timeout=60)
            if word == "end":
                return
            yield word


def test_a_streams_end_does_not_wait_for_anothers_step():
    api = Turns()
    with worker(api) as (front, _):
        api.gates["quick"].put("a")
        api.gates["slow"].put("b")
        front.send((1, Kind.REQUEST, b'"quick"'), (2, Kind.REQUEST, b'"slow"'))
        assert [front.next()[0] for _ in range(2)] == [1, 2]
        api.gates["quick"].put("end")
        assert front.until(1, Kind.END)  # the slow one still waits for its gate: nothing else could send it
        api.gates["slow"].put("end")
        assert front.until(2, Kind.END)


def test_who_leaves_is_told_before_a_stream_begins_that_may_take_long():
    api = Turns()
    with worker(api) as (front, _):
        api.gates["quick"].put("a")
        front.send((1, Kind.REQUEST, b'"quick"'))
        assert front.next() == (1, Kind.CHUNK, b'"a"')
        front.send((1, Kind.CANCEL, b""), (2, Kind.REQUEST, b'"slow"'))
        api.gates["quick"].put("b")
        assert front.until(1, Kind.END)[-1] == (Kind.END, b"")
        assert api.waits["slow"].wait(60)
        api.gates["slow"].put("end")
        assert front.until(2, Kind.END)


def test_a_piece_does_not_wait_for_the_first_step_of_a_stream_that_has_just_come():
    api = Turns()
    with worker(api) as (front, _):
        api.gates["quick"].put("a")
        front.send((1, Kind.REQUEST, b'"quick"'), (2, Kind.REQUEST, b'"slow"'))
        assert front.next() == (1, Kind.CHUNK, b'"a"')
        api.gates["quick"].put("end")
        api.gates["slow"].put("end")
        assert front.until(2, Kind.END)


def test_who_leaves_a_running_batch_is_told_before_the_next_step():
    step = threading.Semaphore(0)
    began = threading.Semaphore(0)

    class Steps(API):
        stream = True

        def __init__(self):
            super().__init__()
            self.uids = []

        def add_request(self, uid, request):
            if request == "no":
                raise ValueError("no")
            self.uids.append(uid)

        def remove_request(self, uid):
            self.uids.remove(uid)

        def has_capacity(self):
            return True

        def has_active_requests(self):
            return bool(self.uids)

        def step(self, previous):
            began.release()
            assert step.acquire(timeout=60)
            return [Output(uid, "x") for uid in self.uids]

    with worker(Steps()) as (front, _):
        front.send((1, Kind.REQUEST, b'"yes"'), (2, Kind.REQUEST, b'"yes"'))
        assert began.acquire(timeout=60)
        front.send((1, Kind.CANCEL, b""), (3, Kind.REQUEST, b'"no"'))
        step.release()
        assert front.until(1, Kind.END)
        assert began.acquire(timeout=60)  # the second step runs, and ends only below
        assert front.until(3, Kind.ERROR)
        front.send((2, Kind.CANCEL, b""))
        step.release()
        assert front.until(2, Kind.END)
