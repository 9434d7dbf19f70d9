"""A worker with several fronts, which come through its door and may go."""

import select
import socket
import struct
import threading
from contextlib import contextmanager

import pytest

from blixt.serve import API
from blixt.serve.page import Page
from blixt.serve.plan import make_plan
from blixt.serve.wire import Kind
from blixt.serve.worker.channel import Channel, FrontGone
from blixt.serve.worker.loops import run

from .loop_rig import Front


class Doubles(API):
    def predict(self, x: int) -> int:
        return 2 * x


class AsyncDoubles(API):
    async def predict(self, x: int) -> int:
        return 2 * x


class Endless(API):
    stream = True

    def __init__(self):
        super().__init__()
        self.closed = threading.Event()

    def predict(self, x):
        try:
            while True:
                yield x
                pace.wait(0.001)
        finally:
            self.closed.set()


class Held(API):
    def __init__(self):
        super().__init__()
        self.began, self.may_end = threading.Event(), threading.Event()

    def predict(self, x: int) -> int:
        self.began.set()
        self.may_end.wait(60)
        return 2 * x


pace = threading.Event()


@contextmanager
def elastic_worker(api):
    """Yields `(join, page)`: `join(slot)` brings a front in."""
    near, far = socket.socketpair()
    outside, door = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    page, plan = Page.create(), make_plan(api)
    fronts = []

    def serve():
        channel = Channel(far, page, None, door)
        channel.ready()
        try:
            run(plan, channel)
        except FrontGone:
            return

    def join(slot, busy=False):
        here, there = socket.socketpair()
        here.settimeout(60)
        socket.send_fds(outside, [struct.pack("<I", slot)], [there.fileno()])
        there.close()
        front = Front(here)
        fronts.append(front)
        if not busy:
            assert front.next() == (0, Kind.READY, b"")
        return front

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield join, page
    finally:
        near.close()
        thread.join(60)
        for sock in (far, outside, door, *(front.sock for front in fronts)):
            sock.close()
        assert not thread.is_alive()


@pytest.mark.parametrize("api", [Doubles(), AsyncDoubles()])
def test_every_front_gets_its_own_answers_even_for_equal_ids(api):
    with elastic_worker(api) as (join, page):
        one, two = join(1), join(2)
        one.send((7, Kind.REQUEST, b"1"))
        two.send((7, Kind.REQUEST, b"2"), (8, Kind.REQUEST, b"3"))
        assert one.next() == (7, Kind.OK, b"2")
        assert sorted([two.next(), two.next()]) == [(7, Kind.OK, b"4"), (8, Kind.OK, b"6")]
        assert (page.started_of(1), page.started_of(2)) == (1, 2)


@pytest.mark.parametrize("api", [Doubles(), AsyncDoubles()])
def test_a_front_that_dies_is_replaced_in_its_place_and_the_others_go_on(api):
    with elastic_worker(api) as (join, page):
        one, two = join(1), join(2)
        one.send((1, Kind.REQUEST, b"1"))
        one.next()
        one.sock.close()
        two.send((1, Kind.REQUEST, b"2"))
        assert two.next() == (1, Kind.OK, b"4")
        again = join(1)
        assert page.started_of(1) == 0
        again.send((1, Kind.REQUEST, b"5"))
        assert again.next() == (1, Kind.OK, b"10")


def test_a_successor_that_comes_while_the_worker_is_busy_gets_no_answer_of_the_dead_front():
    api = Held()
    with elastic_worker(api) as (join, page):
        one = join(1)
        one.send((1, Kind.REQUEST, b"1"))
        assert api.began.wait(60)
        one.sock.close()
        again = join(1, busy=True)
        again.send((1, Kind.REQUEST, b"5"))
        api.may_end.set()
        assert again.next() == (0, Kind.READY, b"")
        assert again.next() == (1, Kind.OK, b"10")
        assert page.started_of(1) == 1


def test_the_streams_of_a_front_that_died_are_closed():
    api = Endless()
    with elastic_worker(api) as (join, _):
        one = join(1)
        one.send((1, Kind.REQUEST, b"1"))
        assert one.next() == (1, Kind.CHUNK, b"1")
        one.sock.close()
        assert api.closed.wait(60)


def test_frames_larger_than_a_socket_holds_arrive_from_a_socket_that_does_not_block():
    here, there = socket.socketpair()
    there.setblocking(False)
    channel = Channel(there, Page.create())
    for _ in range(500):
        channel.answer(1, Kind.CHUNK, b"x" * 10_000)
    thread = threading.Thread(target=channel.flush)
    thread.start()
    front = Front(here)
    select.select([here], [], [], 10)
    assert sum(len(front.next()[2]) for _ in range(500)) == 5_000_000
    thread.join(60)
    here.close()
    there.close()


def test_more_messages_than_a_frame_holds_travel_in_several(monkeypatch):
    monkeypatch.setattr("blixt.serve.wire.MAX_MESSAGES", 10)
    monkeypatch.setattr("blixt.serve.wire.MAX_FRAME_BYTES", 1000)
    here, there = socket.socketpair()
    channel = Channel(there, Page.create())
    for i in range(25):
        channel.answer(i, Kind.CHUNK, b"x")
    channel.answer(99, Kind.OK, b"x" * 2000)
    channel.flush()
    front = Front(here)
    assert [front.next() for _ in range(25)] == [(i, Kind.CHUNK, b"x") for i in range(25)]
    assert front.next()[:2] == (99, Kind.ERROR)
    here.close()
    there.close()
