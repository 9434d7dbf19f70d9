"""The workers of an API as one front among several sees them: another process starts and ends them."""

import asyncio
import logging
import socket
from collections.abc import Callable

from blixt.serve.api import API
from blixt.serve.fronts_control import Message
from blixt.serve.hub import Hub
from blixt.serve.link import Link
from blixt.serve.metrics import ApiMetrics
from blixt.serve.page import Page
from blixt.serve.pipeline import Pipeline, place_of
from blixt.serve.pipeline_hub import PipelineHub
from blixt.serve.plan import make_plan
from blixt.serve.plan_rules import rules_of
from blixt.serve.service import Served
from blixt.serve.wire import Kind
from blixt.serve.wire import Message as WireMessage

Tell = Callable[[Message], object]
logger = logging.getLogger("blixt.serve")


class FrontPool:
    """The workers of one API, which another process supervises.

    Args:
        api: What they run.
        served: What the server consists of.
        metrics: What this front counts.
        slot: This front's word in the workers' pages.
        tell: Sends the supervisor a message.
        stage: See `Plan`.
    """

    def __init__(
        self, api: API, served: Served, metrics: ApiMetrics, slot: int, tell: Tell, stage: str = ""
    ) -> None:
        self.plan = make_plan(api, served.callbacks, stage=stage)
        self.stages: list[FrontPool] = [self]
        self.hub = Hub(self.plan.policy, served.limits, metrics, self._kill, rules_of(api, self.plan.events))
        self._slot = slot
        self._tell = tell
        self._links: dict[Link, int] = {}  # to the worker's process id

    def start(self) -> None:
        """The supervisor starts the workers."""

    async def stop(self, patience_s: float) -> None:
        """Let go of the workers; the supervisor ends them."""
        for link in list(self._links):
            link.close()
        self.hub.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that this front knows."""
        return list(self._links.values())

    def waiting_for(self) -> str | None:
        """Why no worker answers, as far as a front knows."""
        if self.hub.dead_reason is not None or self.hub.workers_ready:
            return self.hub.dead_reason
        return f"{self.plan.name}: no worker is ready."

    async def add(self, pid: int, sock: socket.socket, page: Page) -> None:
        """A worker answers: tie it to the hub once it has greeted this front."""
        link = Link(page, self._on_message, self._on_closed, self.hub.on_busy, self._slot)
        self._links[link] = pid
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=sock)

    def retire(self, pid: int) -> None:
        """A worker has been replaced: it gets nothing new, and its link closes when it is done."""
        for link, its_pid in list(self._links.items()):
            if its_pid == pid:
                self.hub.retire(link)

    def _on_message(self, link: Link, message: WireMessage) -> None:
        if message[1] == Kind.READY:
            self.hub.attach(link)
        else:
            self.hub.on_message(link, message)

    def _on_closed(self, link: Link) -> None:
        pid = self._links.pop(link)
        self.hub.detach(link)
        link.page.close()
        self._tell({"is": "left", "pid": pid})

    def _kill(self, link: Link) -> None:
        pid = self._links.get(link)
        if pid is not None:
            logger.error("worker %d hangs, asking for its end", pid)
            self._tell({"is": "kill", "pid": pid})


class FrontPipeline:
    """The workers of a pipeline: as `FrontPool`, for several stages in a row."""

    def __init__(self, api: Pipeline, served: Served, metrics: ApiMetrics, slot: int, tell: Tell) -> None:
        count = len(api.stages)
        self.plan = make_plan(api, served.callbacks)
        self.stages: list[FrontPool] = [
            FrontPool(stage, served, metrics, slot, tell, place_of(place, count))
            for place, stage in enumerate(api.stages)
        ]
        self.hub = PipelineHub([stage.hub for stage in self.stages], self.plan, metrics)

    def start(self) -> None:
        """The supervisor starts the workers."""

    async def stop(self, patience_s: float) -> None:
        """Let go of every stage's workers."""
        for stage in self.stages:
            await stage.stop(patience_s)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that this front knows."""
        return [pid for stage in self.stages for pid in stage.pids]

    def waiting_for(self) -> str | None:
        """Why no answer can be given, as far as a front knows."""
        return next((why for stage in self.stages if (why := stage.waiting_for()) is not None), None)


def front_pool(
    api: API, served: Served, metrics: ApiMetrics, slot: int, tell: Tell
) -> FrontPool | FrontPipeline:
    """The way to an API's workers, or to those of a pipeline's stages; arguments as of `FrontPool`."""
    if isinstance(api, Pipeline):
        return FrontPipeline(api, served, metrics, slot, tell)
    return FrontPool(api, served, metrics, slot, tell)
