"""`API.health`, asked in the front in a way that can hold nobody up."""

import asyncio
import logging
import threading
from typing import Any

from blixt.serve.api import API
from blixt.serve.plan_hooks import is_overridden
from blixt.serve.plan_mode import is_async

logger = logging.getLogger("blixt.serve")


class HealthCheck:
    """Asks one API. While a check hangs no second one is started, and the answer is no.

    Args:
        api: Its `health` may be sync (asked in a thread) or async (awaited).
    """

    def __init__(self, api: API) -> None:
        self._api = api
        self._own = is_overridden(api, "health")
        self._running: asyncio.Future[Any] | None = None

    async def healthy(self, timeout_s: float = 5.0) -> bool:
        """Whether the API says it is well, within `timeout_s`."""
        if not self._own:
            return True
        if self._running is None or self._running.done():
            self._running = self._ask()
        done, _ = await asyncio.wait({self._running}, timeout=timeout_s)
        if not done:
            return False
        try:
            return bool(self._running.result())
        except Exception:
            logger.exception("%s.health failed", type(self._api).__name__)
            return False

    def _ask(self) -> "asyncio.Future[Any]":
        if is_async(self._api.health):
            return asyncio.ensure_future(self._api.health())
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(value)
            else:
                answer.set_exception(error)

        def ask() -> None:
            value, error = None, None
            try:
                value = self._api.health()
            except Exception as raised:
                error = raised
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, value, error)

        # A daemon thread of its own: one that hangs must not keep the process from ending.
        threading.Thread(target=ask, daemon=True, name="health").start()
        return answer
