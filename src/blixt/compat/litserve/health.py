"""Health by hand: `server.workers_setup_status = {...}` in place of what the workers tell of themselves.

For programs that serve `server.app` without its lifespan, and tests of what a load balancer would see.
"""

import asyncio
import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .status import WorkerSetupStatus

if TYPE_CHECKING:
    from .api import LitAPI

logger = logging.getLogger(__name__)


class ToldHealth:
    """What was told of the workers, and what the LitAPIs say.

    Args:
        path: Where health is asked.
        apis: The server's LitAPIs.

    Attributes:
        told: State by worker; None: nothing was told, the workers speak for themselves.
    """

    def __init__(self, path: str, apis: "Sequence[LitAPI]") -> None:
        self.path = path
        self.told: Mapping[Any, str] | None = None
        self._apis = apis

    async def healthy(self) -> bool:
        """Whether there are workers, all are ready, and every LitAPI's `health` agrees."""
        if not self.told or any(state != WorkerSetupStatus.READY for state in self.told.values()):
            return False
        answers = await asyncio.gather(*map(_ask, self._apis), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, Exception):
                logger.error("health() failed", exc_info=answer)
        return all(answer is True or (answer and not isinstance(answer, Exception)) for answer in answers)

    async def answer(self, send: Any) -> None:
        """200 "ok" or 503 "not ready"."""
        fine = await self.healthy()
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200 if fine else 503, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok" if fine else b"not ready"})


async def _ask(api: "LitAPI") -> Any:
    if inspect.iscoroutinefunction(api.health):
        return await api.health()
    return await asyncio.to_thread(api.health)
