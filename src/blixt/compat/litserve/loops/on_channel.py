"""A loop of LitServe's in a worker of ours: its queue is filled from the worker's socket, and its answers go
there.

One thread, the pump, owns the socket; the loop has the main thread, as in LitServe. A loop knows nothing of
clients that leave or read slowly: requests that wait are dropped when their client goes, those that run are
run to their end for nobody, and pieces are sent as fast as they come.
"""

import logging
import os
import pickle
import select
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from queue import Queue
from typing import Any

from blixt.serve.codec import to_json
from blixt.serve.errors import HTTPError
from blixt.serve.plan import Plan
from blixt.serve.wire import Kind, Message
from blixt.serve.worker.channel import FRONT_SHIFT, Channel, FrontGone
from blixt.serve.worker.desk import Desk
from blixt.serve.worker.inbox import Inbox

from ..adapter import Adapter
from ..callbacks import CallbackRunner
from ..status import LitAPIStatus, LoopResponseType, WorkerSetupStatus
from ..transport.base import MessageTransport
from .base import LitLoop
from .collect import SENTINEL, StopLoop

logger = logging.getLogger(__name__)
FLUSHED_S = 60.0


class OnChannel:
    """What `blixt.serve` takes as a loop.

    Args:
        loop: LitServe's.
    """

    def __init__(self, loop: LitLoop) -> None:
        self._loop = loop

    def run(self, plan: Plan, channel: Channel) -> None:
        """Serve until the front has gone.

        Raises:
            FrontGone: It has.
        """
        adapter = plan.api
        assert isinstance(adapter, Adapter)
        lit, pump = adapter.lit, Pump(plan, channel, adapter)
        number = self._loop.worker_id or 0
        states: dict[Any, str] = {str(number): WorkerSetupStatus.READY}
        threading.Thread(target=pump.run, daemon=True, name="pump").start()
        while not pump.gone:
            try:
                self._loop(lit, adapter.device or "cpu", number, pump.requests, pump, states, _Told(plan))
            except StopLoop:
                break
            finally:
                pump.settle()
        raise FrontGone


class Pump(MessageTransport):
    """The worker's socket as a queue of requests and a transport of answers.

    Attributes:
        requests: What a loop takes from.
        gone: The front has.
    """

    def __init__(self, plan: Plan, channel: Channel, adapter: Adapter) -> None:
        self.requests: Queue[Any] = Requests()
        self.gone = False
        self._plan = plan
        self._channel = channel
        self._adapter = adapter
        self._inbox = Inbox(channel, self._control)
        self._desk = Desk(plan, self._inbox)
        self._asked: dict[str, Message] = {}
        self._out: deque[tuple[str, Any, str, LoopResponseType] | threading.Event] = deque()
        self._near, self._far = socket.socketpair()
        self._far.setblocking(False)

    # -- the loop's side -----------------------------------------------------------------------------------

    def send(self, item: Any, consumer_id: int) -> None:
        """An answer, or a piece of one; goes out from the pump's thread."""
        uid, (data, status, kind, _) = item
        self._out.append((str(uid), data, status, kind))
        self._near.send(b"x")

    async def areceive(self, consumer_id: int | None = None, timeout: float | None = None) -> Any:
        """Nobody receives here: answers leave the process.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("Answers leave the process; there is nothing to receive in a worker.")

    def settle(self) -> None:
        """Wait until all answers have gone out: the process may end now."""
        flushed = threading.Event()
        self._out.append(flushed)
        if not self.gone:
            self._near.send(b"x")
            flushed.wait(FLUSHED_S)

    # -- the socket's side ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Until the front has gone."""
        try:
            while True:
                select.select([*self._channel.descriptors, self._far], (), ())
                self._inbox.fill(block=False)
                while self._inbox.frames:
                    self._open(self._inbox.take_one())
                flushed = self._answer_all()
                self._channel.flush()
                for event in flushed:
                    event.set()
        except FrontGone:
            self.gone = True
            for waiting in [item for item in self._out if isinstance(item, threading.Event)]:
                waiting.set()
            self.requests.put(SENTINEL)
        except Exception:
            logger.exception("the thread between a loop and the front failed")
            os._exit(1)  # without it no request would ever be answered; the supervisor starts another worker

    def _open(self, message: Message | None) -> None:
        if message is None:
            return
        try:
            value, _ = self._desk.read(message)
            value = self._adapter.opened(value, {})
        except Exception as error:
            self._channel.answer(message[0], *self._plan.failure(error))
            return
        uid = str(message[0])
        self._asked[uid] = message
        self.requests.put((0, uid, time.monotonic(), value))

    def _answer_all(self) -> list[threading.Event]:
        """Everything that the loop has said; and who waits for it to go out."""
        with suppress(BlockingIOError):
            self._far.recv(1 << 16)
        flushed: list[threading.Event] = []
        while self._out:
            item = self._out.popleft()
            if isinstance(item, threading.Event):
                flushed.append(item)
            else:
                self._answer(*item)
        return flushed

    def _answer(self, uid: str, data: Any, status: str, kind: LoopResponseType) -> None:
        message = self._asked.get(uid)
        if message is None or status == LitAPIStatus.START:
            return  # its client has left
        id, streams = message[0], kind is LoopResponseType.STREAMING
        if status == LitAPIStatus.OK and streams:
            self._channel.answer(id, Kind.CHUNK, to_json(self._adapter.piece(data)))
            return
        del self._asked[uid]
        if status == LitAPIStatus.FINISH_STREAMING:
            last = self._adapter.last_piece()
            if last is not None:
                self._channel.answer(id, Kind.CHUNK, to_json(last))
            self._channel.answer(id, Kind.END)
        elif status == LitAPIStatus.OK:
            self._channel.answer(id, *self._written(message[1], data))
        else:
            self._channel.answer(id, *self._plan.failure(_error(data)))

    def _written(self, kind: int, data: Any) -> Any:
        try:
            return self._plan.answer(kind, data)
        except Exception as error:
            return self._plan.failure(error)

    def _control(self, id: int, kind: int, payload: bytes) -> None:
        """A client has left: what waits is dropped, what runs is answered to nobody."""
        if kind != Kind.CANCEL:
            return
        whole_front = not id & 0xFFFF_FFFF
        for uid, message in list(self._asked.items()):
            if message[0] == id or (whole_front and message[0] >> FRONT_SHIFT == id >> FRONT_SHIFT):
                del self._asked[uid]
                self._withdraw(uid)
                if not whole_front:
                    self._channel.answer(id, Kind.END)

    def _withdraw(self, uid: str) -> None:
        with self.requests.mutex:
            waiting = self.requests.queue
            for item in [item for item in waiting if item[1] == uid]:
                waiting.remove(item)


class Requests(Queue[Any]):
    """A queue that ends: after the sentinel it gives no more, and whoever asks is stopped."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The next request.

        Raises:
            StopLoop: The front has gone.
            queue.Empty: None came in time.
        """
        item = super().get(block, timeout)
        if item == SENTINEL:
            self.put(SENTINEL)
            raise StopLoop
        return item


class _Told(CallbackRunner):
    """Hands a loop's events to the server's callbacks."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan

    def trigger_event(self, event_name: str, *args: Any, **kwargs: Any) -> None:
        """Tell every callback of an event of the worker's LitAPI."""
        self._plan.events.fire(event_name, self._plan.api)


def _error(data: Any) -> Exception:
    """What a loop reports: an exception, or one that was pickled in this process."""
    if isinstance(data, bytes):
        data = pickle.loads(data)
    return data if isinstance(data, Exception) else HTTPError(500, str(data))
