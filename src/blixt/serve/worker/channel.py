"""The worker's end of its sockets: blocking reads, and answers gathered into frames.

A worker begins with one front, in slot 0. If it is given a `door`, further fronts come in through it, each
with a socket and perhaps shared memory, and may go again; the worker lives as long as the front in slot 0.
Requests are known by `front << 32 | id`, where fronts are numbered as they come in: the successor in a slot
must never get the answer to a request of a dead front. For the only front of most servers that is the id
itself; a worker's own calls are counted in the same way.
"""

import array
import select
import socket
import struct
import time
from typing import TYPE_CHECKING

import msgspec

from blixt.serve.errors import Failure
from blixt.serve.page import Page
from blixt.serve.wire import FrameReader, Kind, Message, WireError, encode

if TYPE_CHECKING:
    from blixt.serve.slab import Slab

FLUSH_AFTER_S = 0.0005
FRONT_SHIFT = 32
ID_MASK = 0xFFFF_FFFF
_SLAB = int(Kind.SLAB)
_SLOT = struct.Struct("<I")


class FrontGone(Exception):
    """The front closed the socket: the worker has no reason to live on."""


class _Front:
    """One front: its number, its slot in the page, its socket, what came of a frame, what waits to go."""

    __slots__ = ("number", "out", "reader", "slab", "slot", "sock", "started")

    def __init__(self, number: int, slot: int, sock: socket.socket, slab: "Slab | None") -> None:
        self.number = number
        self.slot = slot
        self.sock = sock
        self.slab = slab
        self.reader = FrameReader()
        self.out: list[Message] = []
        self.started = 0


def _receive_descriptors(door: socket.socket) -> tuple[bytes, list[int]]:
    """A datagram and the descriptors with it; `socket.recv_fds` would wait, for it ignores its flags."""
    fds = array.array("i")
    space = socket.CMSG_LEN(2 * fds.itemsize)
    payload, ancillary, _, _ = door.recvmsg(64, space, socket.MSG_DONTWAIT)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return payload, fds.tolist()


class Channel:
    """Requests in, answers out.

    Args:
        sock: One end of a stream socket pair.
        page: Where the fronts read how many requests were begun.
        slab: The first front's memory for large bodies.
        door: A datagram socket through which more fronts come in.
    """

    def __init__(
        self,
        sock: socket.socket,
        page: Page,
        slab: "Slab | None" = None,
        door: socket.socket | None = None,
    ) -> None:
        self._page = page
        self._door = door
        self._first = _Front(0, 0, sock, slab)
        self._fronts: dict[int, _Front] = {0: self._first}
        self._by_fd: dict[int, _Front] = {sock.fileno(): self._first}
        self._gone: list[int] = []
        self._let_in = 0
        self.recent_front = 0
        self._is_ready = False
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._flushed_at = time.monotonic()
        if door is not None:
            self._poll.register(door, select.POLLIN)

    @property
    def descriptors(self) -> list[int]:
        """What an event loop must watch; changes when fronts come and go."""
        door = [] if self._door is None else [self._door.fileno()]
        return [*self._by_fd, *door]

    # -- in ------------------------------------------------------------------------------------------------

    def receive(self, block: bool) -> list[list[Message]]:
        """The frames that have arrived; waits for at least one when `block`.

        Raises:
            FrontGone: The socket of slot 0 is closed.
        """
        if self._door is not None:
            return self._receive_any(block)
        while True:
            frames = self._read(self._first, 0 if block else socket.MSG_DONTWAIT)
            if frames or not block:
                return frames or []

    def _receive_any(self, block: bool) -> list[list[Message]]:
        while True:
            frames: list[list[Message]] = []
            for fd, _ in self._poll.poll(None if block else 0):
                if self._door is not None and fd == self._door.fileno():
                    self._answer_door()
                elif (front := self._by_fd.get(fd)) is not None:  # none: it went a moment ago, in this loop
                    frames += self._read(front, socket.MSG_DONTWAIT) or []
            # A lost front must be dealt with before its successor, in the same slot, sends anything.
            if frames or self._gone or not block:
                return frames

    def _read(self, front: _Front, flags: int) -> list[list[Message]] | None:
        """A front's next complete frames; None if nothing has arrived."""
        try:
            data = front.sock.recv(1 << 18, flags)
        except BlockingIOError:
            return None
        except ConnectionError:
            data = b""
        if not data:
            return self._lose(front)
        frames = [frame.messages for frame in front.reader.feed(data)]
        if front.number:
            base = front.number << FRONT_SHIFT
            return [[(base | id, kind, payload) for id, kind, payload in frame] for frame in frames]
        return frames

    def body(self, message: Message) -> bytes | memoryview:
        """A request's body; one in shared memory is readable until the request is answered."""
        id, kind, payload = message
        if kind != _SLAB:
            return payload
        slab = self._fronts[id >> FRONT_SHIFT].slab
        if slab is None:
            raise ValueError("a body lies in shared memory of which this worker was given none")
        return slab.read(payload).toreadonly()

    # -- fronts that come and go -----------------------------------------------------------------------------

    def _answer_door(self) -> None:
        """Let a front in; a dead one in the same slot makes room."""
        assert self._door is not None
        try:
            payload, fds = _receive_descriptors(self._door)
        except BlockingIOError:
            return
        if not payload:
            self._poll.unregister(self._door)
            return
        (slot,) = _SLOT.unpack(payload)
        for old in [front for front in self._fronts.values() if front.slot == slot]:
            self._lose(old)
        slab = None
        if len(fds) > 1:
            from blixt.serve.slab import Slab

            slab = Slab(fds[1])
        self._let_in += 1
        front = _Front(self._let_in, slot, socket.socket(fileno=fds[0]), slab)
        front.sock.setblocking(True)
        self._page.set_started(slot, 0)
        self._fronts[front.number] = self._by_fd[fds[0]] = front
        self._poll.register(fds[0], select.POLLIN)
        if self._is_ready:
            self._send(front, [(0, Kind.READY, b"")], 0)

    def _lose(self, front: _Front) -> list[list[Message]]:
        """A front has gone: to the loops, all its requests are cancelled."""
        if front.slot == 0:
            raise FrontGone
        if front.number in self._fronts:
            self._poll.unregister(front.sock)
            del self._fronts[front.number], self._by_fd[front.sock.fileno()]
            front.sock.close()
            if front.slab is not None:
                front.slab.close()
            self._gone.append(front.number)
        return []

    def lost_fronts(self) -> list[int]:
        """The numbers of the fronts that have gone since the last call."""
        gone, self._gone = self._gone, []
        return gone

    # -- out -----------------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Tell every front, now and later, that set-up is done."""
        self._is_ready = True
        for number in self._fronts:
            self.answer(number << FRONT_SHIFT, Kind.READY)
        self.flush()

    def begin(self, id: int) -> None:
        """Note that a request is being worked on; requests of a front must begin in order of arrival."""
        front = self._first
        if id > ID_MASK:
            self.recent_front = id >> FRONT_SHIFT
            front = self._fronts.get(self.recent_front)
            if front is None:
                return
        front.started += 1
        self._page.set_started(front.slot, front.started)

    def begin_all(self, messages: list[Message]) -> None:
        """As `begin` for each of a batch; with one front, one note says it all."""
        if self._door is None:
            front = self._first
            front.started += len(messages)
            self._page.set_started(front.slot, front.started)
            return
        for message in messages:
            self.begin(message[0])

    def answer(self, id: int, kind: int, payload: bytes = b"") -> None:
        """Add an answer to the next frame; what nobody waits for any more is dropped."""
        if id <= ID_MASK:
            self._first.out.append((id, kind, payload))
        elif (front := self._fronts.get(id >> FRONT_SHIFT)) is not None:
            front.out.append((id & ID_MASK, kind, payload))

    def flush_if_slow(self) -> bool:
        """Send what is gathered if the last frame is long ago: slow models answer one by one."""
        slow = time.monotonic() - self._flushed_at > FLUSH_AFTER_S
        if slow:
            self.flush()
        return slow

    def flush_pending(self) -> None:
        """Send what is gathered, if anything is: what comes next may take long."""
        for front in self._fronts.values():
            if front.out:
                return self.flush()

    def flush(self) -> None:
        """Send what is gathered. The frames tell the time since the last one or since `rest`."""
        now = time.monotonic()
        busy_us = int((now - self._flushed_at) * 1e6)
        if self._door is None:
            fronts = (self._first,)
        else:
            fronts = list(self._fronts.values())
            busy_us //= max(1, sum(bool(front.out) for front in fronts))
        for front in fronts:
            if front.out:
                out, front.out = front.out, []
                self._send(front, out, busy_us)
        self._flushed_at = now

    def _send(self, front: _Front, out: list[Message], busy_us: int) -> None:
        try:
            data = memoryview(encode(out, busy_us))
        except WireError:
            self._send_apart(front, out, busy_us)
            return
        while data:
            try:
                data = data[front.sock.send(data) :]
            except BlockingIOError:  # an event loop that watches the socket has made it so
                select.select((), (front.sock,), ())
            except ConnectionError:
                self._lose(front)
                return

    def _send_apart(self, front: _Front, out: list[Message], busy_us: int) -> None:
        """What is too much for one frame travels in several; what is too large by itself is an error."""
        if len(out) == 1:
            failure = Failure(500, "The answer is larger than 4 GiB; send less, or in pieces.")
            self._send(front, [(out[0][0], Kind.ERROR, msgspec.json.encode(failure))], busy_us)
            return
        half = len(out) // 2
        self._send(front, out[:half], busy_us)
        self._send(front, out[half:], 0)

    def rest(self) -> None:
        """Start the clock of the next frame now: the time before was spent waiting."""
        self._flushed_at = time.monotonic()
