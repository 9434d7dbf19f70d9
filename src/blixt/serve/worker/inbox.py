"""What has arrived at a worker and is not begun yet, and the word that clients have left."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from blixt.serve.errors import Failure
from blixt.serve.wire import Kind, Message
from blixt.serve.worker.channel import FRONT_SHIFT, Channel

_REQUEST, _META, _CANCEL, _RESULT = int(Kind.REQUEST), int(Kind.META), int(Kind.CANCEL), int(Kind.RESULT)
_OPEN = int(Kind.OPEN)
_BODIES = frozenset(int(kind) for kind in (Kind.REQUEST, Kind.SLAB, Kind.VALUE, Kind.PASS, Kind.OPEN))
MAX_UNWANTED = 4096
_FRONT_LOST = msgspec.json.encode(Failure(503, "The front that carried this call has died; try again."))
Control = Callable[[int, int, bytes], None]


def _ignore(id: int, kind: int, payload: bytes) -> None:
    """Nobody runs side by side here, so there is nobody to hold or to stop."""


class Inbox:
    """Requests in their order, without those that were cancelled on the way.

    Args:
        channel: Where they come from.
        control: Called with `(id, kind, payload)` for OPEN, DATA, CLOSE, PAUSE, RESUME, and for CANCEL.

    Attributes:
        frames: Requests as the front grouped them.
        results: Answers to this worker's calls, by call id.
        current: The requests whose hooks run now: those in whose name the worker calls other APIs.
    """

    def __init__(self, channel: Channel, control: Control = _ignore) -> None:
        self.channel = channel
        self.frames: deque[list[Message]] = deque()
        self.results: dict[int, bytes] = {}
        self.current: Sequence[int] = ()
        self.asked: set[int] = set()  # this worker's calls without an answer yet
        self._control = control
        self._owner = threading.get_ident()
        self._metas: dict[int, bytes] = {}
        self._cancelled: set[int] = set()  # waiting here
        self._unwanted: dict[int, None] = {}  # begun, or answered while the word was on its way

    def fill(self, block: bool) -> None:
        """Take what has arrived; waits for something when `block`."""
        for messages in self.channel.receive(block):
            for message in messages:
                if message[1] != _REQUEST:
                    messages = self._sort(messages)
                    break
            if messages:
                self.frames.append(messages)
        for number in self.channel.lost_fronts():
            self._forget_front(number)

    def take(self) -> list[Message]:
        """The next frame's live requests, marked as begun; cancelled ones are answered END."""
        frame = self.frames.popleft()
        self.channel.begin_all(frame)
        if self._cancelled:
            frame = [message for message in frame if not self._drop(message[0])]
        self.current = [message[0] for message in frame]
        return frame

    def take_one(self) -> Message | None:
        """The next request, marked as begun, or None if it was cancelled."""
        frame = self.frames[0]
        message = frame.pop(0)
        if not frame:
            self.frames.popleft()
        self.channel.begin(message[0])
        self.current = (message[0],)
        return None if self._cancelled and self._drop(message[0]) else message

    def meta(self, id: int) -> bytes | None:
        """What came with a request besides its body; asked once."""
        return self._metas.pop(id, None) if self._metas else None

    def is_unwanted(self, id: int) -> bool:
        """Whether the client of a begun request has left; looks at what has arrived."""
        if (
            threading.get_ident() == self._owner
        ):  # another thread of the user's learns it from this one's looks
            self.fill(block=False)
        return id in self._unwanted

    def done(self, id: int) -> None:
        """A begun request is answered."""
        if self._unwanted:
            self._unwanted.pop(id, None)

    def _drop(self, id: int) -> bool:
        if id not in self._cancelled:
            return False
        self._cancelled.discard(id)
        self._metas.pop(id, None)
        self.channel.answer(id, Kind.END)
        self._control(id, _CANCEL, b"")
        return True

    def _sort(self, messages: list[Message]) -> list[Message]:
        """Keep a frame's requests, and see to the rest."""
        requests: list[Message] = []
        for message in messages:
            id, kind, payload = message
            if kind in _BODIES:
                requests.append(message)
                if kind == _OPEN:
                    self._control(id, kind, payload)  # the client's messages may come in the same breath
            elif kind == _META:
                self._metas[id] = payload
            elif kind == _RESULT:
                self.asked.discard(id)
                self.results[id] = payload
            elif kind != _CANCEL:
                self._control(id, kind, payload)
            elif any(m[0] == id for m in requests) or self._waits(id):
                self._cancelled.add(id)
            else:
                self._unwanted[id] = None
                if len(self._unwanted) > MAX_UNWANTED:
                    del self._unwanted[next(iter(self._unwanted))]
                self._control(id, kind, payload)
        return requests

    def _waits(self, id: int) -> bool:
        return any(message[0] == id for frame in self.frames for message in frame)

    def _forget_front(self, number: int) -> None:
        """A front has gone: what it asked for is not wanted any more."""
        for frame in self.frames:
            frame[:] = [message for message in frame if message[0] >> FRONT_SHIFT != number]
        self.frames = deque(frame for frame in self.frames if frame)
        self._metas = {id: meta for id, meta in self._metas.items() if id >> FRONT_SHIFT != number}
        self._cancelled = {id for id in self._cancelled if id >> FRONT_SHIFT != number}
        for id in [id for id in self.asked if id >> FRONT_SHIFT == number]:
            self.asked.discard(id)
            self.results[id] = bytes((Kind.ERROR,)) + _FRONT_LOST
        self._control(number << FRONT_SHIFT, Kind.CANCEL, b"")


class Context(dict[str, Any]):
    """One request's own dict, handed to every hook that has a parameter named `context`.

    It carries whatever hooks put into it, and what `API.context_fields` asks for.
    """

    __slots__ = ("_is_unwanted",)

    def __init__(self, fields: dict[str, Any], is_unwanted: Callable[[], bool]) -> None:
        super().__init__(fields)
        self._is_unwanted = is_unwanted

    @property
    def cancelled(self) -> bool:
        """Whether the client has left (or been answered 504), so that going on is of no use to anybody.

        Looks at the worker's socket: a microsecond or two, from the thread that runs the hook.
        """
        return self._is_unwanted()
