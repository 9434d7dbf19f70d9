"""Websocket sessions in a worker: what the client sends, what the session sends, and who is behind."""

import asyncio
import inspect
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from blixt.serve.codec import to_json
from blixt.serve.plan import Plan
from blixt.serve.wire import Kind, Message

HIGH_MESSAGES = 64
HIGH_BYTES = 2**20
CLOSE_CODE = struct.Struct(">H")
_BYTES: Any = (bytes, bytearray, memoryview)
Send = Callable[[int, int, bytes], None]


class SocketClosed(Exception):
    """The client has closed its websocket, or has gone.

    Attributes:
        code: The websocket's close code; 1005 if none was given, 1006 if the connection broke.
        reason: The client's words.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the websocket was closed with code {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class Opening(msgspec.Struct):
    """What the client asked for; the payload of `Kind.OPEN`."""

    path: str = ""
    query: str = ""
    headers: list[tuple[str, str]] = []
    subprotocols: list[str] = []


class Socket:
    """A client's websocket, as `async def session(self, socket)` gets it.

    Attributes:
        path: The URL's path.
        query: The URL's query string.
        headers: The handshake's headers.

    Example:
        ```python
        async def session(self, socket):
            async for message in socket:
                await socket.send({"echo": message})
        ```
    """

    def __init__(self, opening: Opening, send: Callable[[int, bytes], None]) -> None:
        self.path = opening.path
        self.query = opening.query
        self.headers = dict(opening.headers)
        self._send = send
        self._messages: deque[bytes] = deque()
        self._size = 0
        self._arrived = asyncio.Event()
        self._may_send = asyncio.Event()
        self._may_send.set()
        self._closed: SocketClosed | None = None
        self._held = False
        self.close_payload: bytes | None = None

    async def receive(self) -> str | bytes:
        """The client's next message.

        Raises:
            SocketClosed: There will be none.
        """
        while not self._messages:
            if self._closed is not None:
                raise self._closed
            self._arrived.clear()
            await self._arrived.wait()
        data = self._messages.popleft()
        self._size -= len(data)
        if self._held and len(self._messages) < HIGH_MESSAGES // 2 and self._size < HIGH_BYTES // 2:
            self._held = False
            self._send(Kind.RESUME, b"")
        return data[1:].decode() if data[:1] == b"t" else data[1:]

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[str | bytes]:
        while True:
            try:
                yield await self.receive()
            except SocketClosed:
                return

    async def send(self, message: Any) -> None:
        """Send text, bytes, or anything else as JSON text; waits while the client is behind.

        Raises:
            SocketClosed: The client has gone.
        """
        await self._may_send.wait()
        if self._closed is not None:
            raise self._closed
        if isinstance(message, _BYTES):
            self._send(Kind.DATA, b"b" + bytes(message))
        else:
            self._send(Kind.DATA, b"t" + (message.encode() if isinstance(message, str) else to_json(message)))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End the session with a code; returning from `session` means 1000."""
        if self.close_payload is None:
            self.close_payload = CLOSE_CODE.pack(code) + reason.encode()[:123]
        self.hang_up(SocketClosed(code, reason))

    def control(self, kind: int, payload: bytes) -> None:
        """Worker: a message from the front."""
        if kind == Kind.DATA:
            self._messages.append(payload)
            self._size += len(payload)
            self._arrived.set()
            if not self._held and (len(self._messages) >= HIGH_MESSAGES or self._size >= HIGH_BYTES):
                self._held = True
                self._send(Kind.PAUSE, b"")
        elif kind == Kind.CLOSE:
            self.hang_up(
                SocketClosed(CLOSE_CODE.unpack_from(payload)[0], payload[2:].decode(errors="replace"))
            )
        elif kind == Kind.PAUSE:
            self._may_send.clear()
        elif kind == Kind.RESUME:
            self._may_send.set()

    def hang_up(self, why: SocketClosed) -> None:
        """Worker: nothing comes and nothing can be sent any more."""
        if self._closed is None:
            self._closed = why
        self._arrived.set()
        self._may_send.set()


class BlockingSocket:
    """The same websocket for `def session(self, socket)`, which runs in a thread of its own."""

    def __init__(self, socket: Socket, loop: asyncio.AbstractEventLoop) -> None:
        self._socket = socket
        self._loop = loop
        self.path, self.query, self.headers = socket.path, socket.query, socket.headers

    def receive(self, timeout_s: float | None = None) -> str | bytes:
        """As `Socket.receive`; waits at most `timeout_s`, then raises TimeoutError."""
        return self._wait(asyncio.wait_for(self._socket.receive(), timeout_s))

    def __iter__(self) -> Iterator[str | bytes]:
        while True:
            try:
                yield self.receive()
            except SocketClosed:
                return

    def send(self, message: Any) -> None:
        """As `Socket.send`."""
        self._wait(self._socket.send(message))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """As `Socket.close`."""
        self._wait(self._socket.close(code, reason))

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop has been closed: the worker is ending
            work.close()
            raise SocketClosed(1001, "the worker is ending") from None
        return waiting.result()


class Sessions:
    """The live sessions of one worker.

    Args:
        plan: Its API's `session` is served: a coroutine, an async generator (what it yields is sent), or
            either of them blocking, in a thread.
        send: Puts a message into the next frame.
    """

    def __init__(self, plan: Plan, send: Send) -> None:
        self.live: dict[int, Socket] = {}
        self._session: Any = getattr(plan.api, "session", None)
        self._yields = inspect.isasyncgenfunction(self._session)
        self._awaits = inspect.iscoroutinefunction(self._session)
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(plan.api.max_streams, "session")

    async def serve(self, message: Message) -> tuple[int, bytes]:
        """Run one session; the message that ends it."""
        id = message[0]
        socket = self.live[id]
        try:
            await self._run(socket)
        except SocketClosed:
            pass  # the client's leaving ends a session that does not look for it
        finally:
            self.live.pop(id, None)
            socket.hang_up(SocketClosed(1006, "the session has ended"))
        if socket.close_payload is not None:
            return Kind.CLOSE, socket.close_payload
        return Kind.END, b""

    def control(self, id: int, kind: int, payload: bytes) -> None:
        """A message from the front: a session begins, or something for one that lives."""
        if kind == Kind.OPEN:
            opening = msgspec.json.decode(payload, type=Opening)
            self.live[id] = Socket(opening, lambda kind, payload: self._send(id, kind, payload))
        elif kind == Kind.CANCEL:
            self.live.pop(id, None)
        elif id in self.live:
            self.live[id].control(kind, payload)

    async def _run(self, socket: Socket) -> None:
        if self._yields:
            async for message in self._session(socket):
                await socket.send(message)
        elif self._awaits:
            await self._session(socket)
        else:
            await self._loop.run_in_executor(self._threads, self._block, socket)

    def _block(self, socket: Socket) -> None:
        blocking = BlockingSocket(socket, self._loop)
        result = self._session(blocking)
        if inspect.isgenerator(result):
            for message in result:
                blocking.send(message)
