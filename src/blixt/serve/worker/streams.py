"""Streams side by side: every live generator gives one piece in turn, and one frame carries them all."""

from collections.abc import Iterator
from typing import Any

from blixt.serve.codec import to_json
from blixt.serve.plan import Plan
from blixt.serve.wire import Kind, Message
from blixt.serve.worker.channel import FRONT_SHIFT, Channel
from blixt.serve.worker.desk import Desk
from blixt.serve.worker.inbox import Inbox
from blixt.serve.worker.outside import connect

_CHUNK = int(Kind.CHUNK)


class Streams:
    """The loop of a streaming API."""

    def __init__(self, plan: Plan, channel: Channel) -> None:
        self._plan = plan
        self._channel = channel
        self._inbox = Inbox(channel, self._control)
        self._desk = Desk(plan, self._inbox)
        self._live: dict[int, Iterator[Any]] = {}
        self._paused: set[int] = set()
        self._unwanted: set[int] = set()  # cancelled while their own step looked at the inbox
        self._stepping = -1
        self._slow: set[int] = set()  # whose next step may take long: the first one, or like the one before
        connect(plan, self._inbox)

    def run(self) -> None:
        """Serve until the front has gone."""
        inbox, channel, live, paused = self._inbox, self._channel, self._live, self._paused
        slow = self._slow
        while True:
            idle = len(live) == len(paused) and not inbox.frames
            inbox.fill(block=idle)
            if idle:
                channel.rest()
            while inbox.frames:
                message = inbox.take_one()
                if message is not None:
                    self._open(message)
            for id in [id for id in live if id not in paused] if paused else list(live):
                if id in slow:
                    channel.flush_pending()
                    slow.discard(id)
                self._step(id)
                if channel.flush_if_slow() and id in live:
                    slow.add(id)
            channel.flush()

    def _open(self, message: Message) -> None:
        id, plan = message[0], self._plan
        self._stepping = id
        try:
            value, context = self._desk.open(message)
            output: Any = plan.predict.call(value, context)
            if isinstance(output, str | bytes | dict) or not hasattr(output, "__iter__"):
                output = [output]  # a plain answer is a stream of one piece
            self._live[id] = iter(plan.encode_stream((value, output), context))
            self._slow.add(id)
        except Exception as error:
            self._channel.answer(id, *plan.failure(error))
            self._unwanted.discard(id)
        self._stepping = -1

    def _step(self, id: int) -> None:
        stream = self._live.get(id)
        if stream is None:
            return  # cancelled while another stream looked at the inbox
        self._stepping = id
        self._inbox.current = (id,)
        try:
            payload = to_json(next(stream))
            if id not in self._unwanted:
                self._channel.answer(id, _CHUNK, payload)
                self._stepping = -1
                return
            self._channel.answer(id, Kind.END)
        except StopIteration:
            self._channel.answer(id, Kind.END)
        except Exception as error:
            self._channel.answer(id, *self._plan.failure(error))
        self._stepping = -1
        self._end(id)

    def _control(self, id: int, kind: int, payload: bytes) -> None:
        if kind == Kind.PAUSE and id in self._live:
            self._paused.add(id)
        elif kind == Kind.RESUME:
            self._paused.discard(id)
        elif kind == Kind.CANCEL and id == self._stepping:
            self._unwanted.add(id)
        elif kind == Kind.CANCEL and id in self._live:
            self._channel.answer(id, Kind.END)
            self._end(id)
        elif kind == Kind.CANCEL and not id & 0xFFFF_FFFF:
            for lost in [i for i in self._live if i >> FRONT_SHIFT == id >> FRONT_SHIFT]:
                self._end(lost)

    def _end(self, id: int) -> None:
        self._channel.flush_pending()  # its last word must not wait for another stream's step
        self._paused.discard(id)
        self._slow.discard(id)
        self._unwanted.discard(id)
        self._inbox.done(id)
        close_quietly(self._live.pop(id, None))


def close_quietly(stream: Any) -> None:
    """Run a generator's `finally` blocks; what it raises on close has nobody to be told to."""
    close = getattr(stream, "close", None)
    if close is not None:
        try:
            close()
        except Exception:
            return
