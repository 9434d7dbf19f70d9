"""The loop of an async API: every request, batch or session is a task, and a turn's answers share a frame."""

import asyncio
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any

from blixt.serve.plan import Plan
from blixt.serve.wire import Kind, Message
from blixt.serve.worker.aio_calls import CALLERS, AsyncCalls
from blixt.serve.worker.aio_hooks import AsyncHooks
from blixt.serve.worker.channel import FRONT_SHIFT, Channel, FrontGone
from blixt.serve.worker.desk import Desk
from blixt.serve.worker.inbox import Inbox
from blixt.serve.worker.sessions import Sessions


def run_async(plan: Plan, channel: Channel) -> None:
    """Serve until the front has gone."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop

    async def serve() -> None:
        await AsyncWorker(plan, channel).run()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve())


class AsyncWorker:
    """Tasks in one thread; made inside its running event loop."""

    def __init__(self, plan: Plan, channel: Channel) -> None:
        self._plan = plan
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._inbox = Inbox(channel, self._control)
        self._unwanted: set[int] = set()
        self._hooks = AsyncHooks(plan, Desk(plan, self._inbox, self._unwanted.__contains__))
        self._sessions = Sessions(plan, self._send)
        self._calls = AsyncCalls(plan, self._inbox, self._flush_soon)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._gates: dict[int, asyncio.Event] = {}
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._watched: list[int] = []
        self._flush_due = False

    async def run(self) -> None:
        """Serve until the front has gone; then tasks are cancelled and get a moment for their `finally`."""
        self._watch()
        try:
            await self._gone
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=1.0)

    # -- in ------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Listen to every socket; they change when fronts come and go."""
        now = self._channel.descriptors
        for fd in set(self._watched) - set(now):
            self._loop.remove_reader(fd)
        for fd in set(now) - set(self._watched):
            self._loop.add_reader(fd, self._on_readable)
        self._watched = now

    def _on_readable(self) -> None:
        self._channel.rest()
        try:
            self._inbox.fill(block=False)
        except FrontGone:
            for fd in self._watched:
                self._loop.remove_reader(fd)
            if not self._gone.done():
                self._gone.set_result(None)
            return
        if len(self._watched) > 1:
            self._watch()
        while self._inbox.frames:
            self._begin(self._inbox.take())
        self._calls.settle()
        self._flush_soon()

    def _begin(self, messages: list[Message]) -> None:
        if not self._plan.policy.batched:
            for message in messages:
                kind = message[1]
                serve = (
                    self._session if kind == Kind.OPEN else self._stream if self._streams else self._answer
                )
                self._spawn([message[0]], serve(message))
            return
        sessions = [message for message in messages if message[1] == Kind.OPEN]
        for message in sessions:
            self._spawn([message[0]], self._session(message))
        batch = [message for message in messages if message[1] != Kind.OPEN]
        if batch:
            self._spawn([message[0] for message in batch], self._batch(batch))

    @property
    def _streams(self) -> bool:
        return self._plan.policy.stream

    def _spawn(self, ids: list[int], work: Coroutine[Any, Any, None]) -> None:
        context = copy_context()
        context.run(CALLERS.set, ids)
        task = self._loop.create_task(work, context=context)
        for id in ids:
            self._tasks[id] = task
        task.add_done_callback(lambda task: self._on_done(task, ids))

    def _on_done(self, task: asyncio.Task[None], ids: list[int]) -> None:
        """A task that was cancelled before its first step could not answer."""
        if task.cancelled():
            for id in ids:
                if id in self._tasks:
                    self._finish(id, Kind.END)

    def _control(self, id: int, kind: int, payload: bytes) -> None:
        if kind == Kind.CANCEL and not id & 0xFFFF_FFFF:
            for lost in [i for i in self._tasks if i >> FRONT_SHIFT == id >> FRONT_SHIFT]:
                self._cancel(lost)
        elif kind == Kind.CANCEL:
            self._cancel(id)
        elif kind == Kind.PAUSE and id in self._tasks:
            self._gates[id] = asyncio.Event()
        elif kind == Kind.RESUME and id in self._gates:
            self._gates.pop(id).set()
        self._sessions.control(id, kind, payload)

    def _cancel(self, id: int) -> None:
        """One request less; a batch goes on for the others."""
        task = self._tasks.get(id)
        if task is None:
            return
        self._unwanted.add(id)
        if self._plan.policy.batched:
            self._send(id, Kind.END)  # the batch may still take long
        if all(other in self._unwanted for other, its in self._tasks.items() if its is task):
            task.cancel()

    # -- out -----------------------------------------------------------------------------------------------

    def _send(self, id: int, kind: int, payload: bytes = b"") -> None:
        self._channel.answer(id, kind, payload)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        try:
            self._channel.flush()
        except FrontGone:
            if not self._gone.done():
                self._gone.set_result(None)

    def _finish(self, id: int, kind: int, payload: bytes = b"") -> None:
        """A request's last message, unless it was ended before its batch."""
        if id not in self._unwanted or not self._plan.policy.batched:
            self._send(id, kind, payload)
        self._tasks.pop(id, None)
        self._gates.pop(id, None)
        self._unwanted.discard(id)
        self._inbox.done(id)

    # -- tasks ---------------------------------------------------------------------------------------------

    async def _answer(self, message: Message) -> None:
        id, plan, hooks = message[0], self._plan, self._hooks
        try:
            value, context = await hooks.open(message)
            output = await hooks.predict(value, context)
            kind, payload = plan.answer(message[1], await hooks.encode(output, context))
        except asyncio.CancelledError:
            kind, payload = Kind.END, b""
        except Exception as error:
            kind, payload = plan.failure(error)
        self._finish(id, kind, payload)

    async def _stream(self, message: Message) -> None:
        id, plan, hooks = message[0], self._plan, self._hooks
        kind, payload = Kind.END, b""
        try:
            value, context = await hooks.open(message)
            async for piece in hooks.pieces(value, context):
                self._send(id, Kind.CHUNK, piece)
                if id in self._gates:
                    await self._gates[id].wait()
                else:
                    await asyncio.sleep(0)  # the others' turn
        except asyncio.CancelledError:
            pass
        except Exception as error:
            kind, payload = plan.failure(error)
        self._finish(id, kind, payload)

    async def _session(self, message: Message) -> None:
        try:
            kind, payload = await self._sessions.serve(message)
        except asyncio.CancelledError:
            kind, payload = Kind.END, b""
        except Exception as error:
            kind, payload = self._plan.failure(error)
        self._finish(message[0], kind, payload)

    async def _batch(self, messages: list[Message]) -> None:
        opened: list[Message] = []
        inputs: list[Any] = []
        contexts: list[Any] = []
        for message in messages:
            try:
                value, context = await self._hooks.open(message)
            except Exception as error:
                self._finish(message[0], *self._plan.failure(error))
                continue
            opened.append(message)
            inputs.append(value)
            contexts.append(context)
        try:
            if not opened:
                return
            if self._streams:
                await self._batch_pieces(opened, inputs, contexts)
            else:
                await self._batch_answers(opened, inputs, contexts)
        except asyncio.CancelledError:
            for message in opened:
                self._finish(message[0], Kind.END)
        except Exception as error:
            answer = self._plan.failure(error)
            for message in opened:
                if message[0] in self._tasks:
                    self._finish(message[0], *answer)

    async def _batch_answers(self, messages: list[Message], inputs: list[Any], contexts: list[Any]) -> None:
        outputs = await self._hooks.predict_batch(inputs, contexts)
        for message, output, context in zip(messages, outputs, contexts, strict=True):
            try:
                answer = self._plan.answer(message[1], await self._hooks.encode(output, context))
            except Exception as error:
                answer = self._plan.failure(error)
            self._finish(message[0], *answer)

    async def _batch_pieces(self, messages: list[Message], inputs: list[Any], contexts: list[Any]) -> None:
        ids = [message[0] for message in messages]
        async for pieces in self._hooks.batch_pieces(inputs, contexts):
            for id, piece in zip(ids, pieces, strict=True):
                if id not in self._unwanted:
                    self._send(id, Kind.CHUNK, piece)
            for gate in [self._gates[id] for id in ids if id in self._gates and id not in self._unwanted]:
                await gate.wait()
            await asyncio.sleep(0)
        for id in ids:
            self._finish(id, Kind.END)
