"""`await api.call(...)` in an async worker."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from blixt.serve.plan import Plan
from blixt.serve.worker.inbox import Inbox
from blixt.serve.worker.outside import Question, call_id, result_of, send_call

CALLERS: ContextVar[Sequence[int]] = ContextVar("callers", default=())
"""The requests that the current task, or a thread that works for it, answers."""


class AsyncCalls:
    """Questions to other APIs that wait for their answers.

    Args:
        plan: Its API gets its `call`.
        inbox: Where answers arrive.
        flush_soon: Called when a question is to be sent.
    """

    def __init__(self, plan: Plan, inbox: Inbox, flush_soon: Callable[[], None]) -> None:
        self._inbox = inbox
        self._flush_soon = flush_soon
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._count = itertools.count(1)
        self._folder = plan.folder
        self._owner = threading.get_ident()
        self._loop = asyncio.get_running_loop()
        plan.api._send_call = self._call  # pyright: ignore[reportPrivateUsage]

    def _call(self, target: str, x: Any, timeout_s: float | None) -> Any:
        """A coroutine for hooks that run in the loop; the answer itself for a `predict` in its thread."""
        work = self._ask(Question(target, timeout_s, CALLERS.get()), x)
        if threading.get_ident() == self._owner:
            return work
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _ask(self, question: Question, x: Any) -> Any:
        channel = self._inbox.channel
        id = call_id(channel, question.callers, next(self._count))
        waiting = self._waiting[id] = asyncio.get_running_loop().create_future()
        try:
            self._inbox.asked.add(id)
            send_call(channel, id, question, x, self._folder)
            self._flush_soon()
            return result_of(await waiting)
        finally:
            del self._waiting[id]

    def settle(self) -> None:
        """Hand out the answers that have arrived."""
        results = self._inbox.results
        while results:
            id, payload = results.popitem()
            waiting = self._waiting.get(id)
            if waiting is not None and not waiting.done():
                waiting.set_result(payload)
