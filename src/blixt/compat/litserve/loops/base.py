"""LitServe's loops: what they share, and how a loop of one's own is written.

A worker whose LitAPI has `loop="auto"` is served by blixt's loops. One with an object of these classes is
served by that: requests come out of a queue and answers go into a transport, as LitServe's loops know it, and
both lead to the worker's socket (`on_channel`).
"""

import asyncio
import inspect
import logging
import os
import pickle
from collections.abc import Callable, Sequence
from queue import Empty
from typing import Any

from fastapi import HTTPException

from ..callbacks import CallbackRunner
from ..status import LitAPIStatus, LoopResponseType
from ..transport.base import MessageTransport
from .checks import check_hooks
from .collect import SENTINEL, Request, StopLoop, collate_requests, take, waited_too_long
from .hooks import asyncified, call_async, inject_context, inject_context_async

__all__ = ["DefaultLoop", "LitLoop", "collate_requests"]

logger = logging.getLogger(__name__)
IDLE_S = 0.001

_SENTINEL_VALUE = SENTINEL
_StopLoopError = StopLoop
_inject_context = inject_context
_async_inject_context = inject_context_async
_handle_async_function = call_async
_sync_fn_to_async_fn = asyncified


class LitLoop:
    """A loop: subclass it and write `run`, which is called again and again, or `__call__`, called once.

    Attributes:
        response_queue_ids: Who asks, by uid, of the requests that an async `run` works on.
    """

    def __init__(self) -> None:
        self._context: dict[str, Any] = {}
        self._worker_id: int | None = None
        self._restart_workers = False
        self.response_queue_ids: dict[str, int] = {}

    def pre_setup(self, lit_api: Any, spec: Any = None) -> None:
        """Check that a LitAPI fits the loop, before any worker starts."""

    def run(
        self,
        lit_api: Any,
        device: str,
        worker_id: int,
        request_queue: Any,
        transport: MessageTransport,
        workers_setup_status: dict[Any, str],
        callback_runner: CallbackRunner,
    ) -> Any:
        """Take requests `(consumer, uid, since, body)` from the queue and answer them; may be async."""
        raise NotImplementedError(f"{type(self).__name__} has no run method; write one.")

    def __call__(
        self,
        lit_api: Any,
        device: str,
        worker_id: int,
        request_queue: Any,
        transport: MessageTransport,
        workers_setup_status: dict[Any, str],
        callback_runner: CallbackRunner,
    ) -> Any:
        """Serve as long as the worker lives."""
        args = (
            lit_api,
            device,
            worker_id,
            request_queue,
            transport,
            workers_setup_status,
            callback_runner,
        )
        if inspect.iscoroutinefunction(self.run):
            asyncio.run(self._serve(args))
            return
        while True:
            self.run(*args)

    async def _serve(self, args: tuple[Any, ...]) -> None:
        """`run` beside `schedule_task`, until that ends."""
        lit_api, request_queue, transport = args[0], args[3], args[4]
        beside = asyncio.create_task(self.schedule_task(lit_api, lit_api.spec, request_queue, transport))
        while not beside.done():
            try:
                await self.run(*args)
            except Exception:
                logger.exception("%s.run failed", type(self).__name__)
            await self.rest()
        for uid, consumer in self.response_queue_ids.items():
            error = HTTPException(500, "The loop's schedule_task has ended.")
            self.put_error_response(transport, consumer, uid, error, LoopResponseType.STREAMING)
        self.on_schedule_task_done(beside)
        beside.result()

    async def rest(self) -> None:
        """Between two calls of an async `run`."""
        await asyncio.sleep(IDLE_S)

    async def schedule_task(
        self, lit_api: Any, lit_spec: Any, request_queue: Any, transport: MessageTransport
    ) -> None:
        """What an async loop does beside `run`, such as taking requests; waits for ever by default."""
        await asyncio.get_running_loop().create_future()

    def on_schedule_task_done(self, schedule_task: "asyncio.Task[None]") -> None:
        """`schedule_task` has ended."""

    # -- what loops are written with -----------------------------------------------------------------------

    def get_request(self, request_queue: Any, block: bool = True, timeout: float | None = None) -> Any:
        """The next request, or None if none came in time."""
        try:
            return request_queue.get(block=block, timeout=timeout)
        except Empty:
            return None

    def get_batch_requests(
        self, lit_api: Any, request_queue: Any, transport: MessageTransport
    ) -> tuple[list[tuple[int, str, Any]], list[tuple[int, str]]]:
        """See `collate_requests`."""
        return collate_requests(self, lit_api, request_queue, transport)

    def populate_context(self, lit_spec: Any, request: Any) -> None:
        """Put what the request says into the loop's context, if there is a spec."""
        if lit_spec is not None and hasattr(lit_spec, "populate_context"):
            lit_spec.populate_context(self._context, request)

    @property
    def worker_id(self) -> int | None:
        """Which worker this is; None outside one."""
        if self._worker_id is None and (number := os.environ.get("LITSERVE_WORKER_ID")):
            self._worker_id = int(number)
        return self._worker_id

    def put_response(
        self,
        transport: MessageTransport,
        response_queue_id: int,
        uid: str,
        response_data: Any,
        status: str,
        response_type: LoopResponseType,
    ) -> None:
        """Send an answer, a piece of one, or a word about it. That it began is told only if anybody cares."""
        if status == LitAPIStatus.START and not self._restart_workers:
            return
        message = (uid, (response_data, status, response_type, self.worker_id))
        transport.send(message, consumer_id=response_queue_id)

    def put_error_response(
        self,
        transport: MessageTransport,
        response_queue_id: int,
        uid: str,
        error: Any,
        response_type: LoopResponseType = LoopResponseType.REGULAR,
    ) -> None:
        """Answer with an error, pickled."""
        self.put_response(
            transport, response_queue_id, uid, pickle.dumps(error), LitAPIStatus.ERROR, response_type
        )

    def kill(self) -> None:
        """LitServe's way to end the server from a loop; here a worker that ends is replaced, so: nothing."""


_BaseLoop = LitLoop


class DefaultLoop(LitLoop):
    """What the loops share that call the hooks."""

    kind = LoopResponseType.REGULAR

    def pre_setup(self, lit_api: Any, spec: Any = None) -> None:
        """The hooks must be generators, or not, as `stream` says.

        Raises:
            ValueError: They are not.
        """
        if lit_api.spec is None:
            check_hooks(lit_api)

    def one_by_one(
        self,
        answer: Callable[[Request, Any, MessageTransport, CallbackRunner], None],
        lit_api: Any,
        request_queue: Any,
        transport: MessageTransport,
        callback_runner: CallbackRunner,
    ) -> None:
        """Answer one request after the other, until the sentinel comes."""
        while True:
            try:
                request = self.next_request(lit_api, request_queue, transport)
            except StopLoop:
                return
            if request is not None:
                answer(request, lit_api, transport, callback_runner)

    def batch_by_batch(
        self,
        answer: Callable[[list[tuple[int, str, Any]], Any, MessageTransport, CallbackRunner], None],
        lit_api: Any,
        request_queue: Any,
        transport: MessageTransport,
        callback_runner: CallbackRunner,
    ) -> None:
        """Answer what comes together, until the sentinel comes; who waited too long is told so."""
        while True:
            try:
                batch, late = self.get_batch_requests(lit_api, request_queue, transport)
            except StopLoop:
                return
            self.time_out(lit_api, late, transport)
            if batch:
                answer(batch, lit_api, transport, callback_runner)

    def next_request(self, lit_api: Any, request_queue: Any, transport: MessageTransport) -> Request | None:
        """The next request that is not too old; None if there is none just now.

        Raises:
            StopLoop: No more will come.
        """
        try:
            request = take(request_queue, timeout=1.0)
        except Empty:
            return None
        return self.begun(lit_api, request, transport)

    def begun(self, lit_api: Any, request: Request, transport: MessageTransport) -> Request | None:
        """Tell that a request has begun; None if it was too old and has its answer."""
        self.put_response(transport, request.consumer, request.uid, (), LitAPIStatus.START, self.kind)
        if not waited_too_long(lit_api, request.since):
            return request
        self.time_out(lit_api, [(request.consumer, request.uid)], transport)
        return None

    def time_out(self, lit_api: Any, late: Sequence[tuple[int, str]], transport: MessageTransport) -> None:
        """Answer requests that waited too long."""
        for consumer, uid in late:
            logger.error(
                "Request %s was waiting in the queue for too long (%s seconds) and has been timed out; "
                "LitServer(timeout=...) says how long it may.",
                uid,
                lit_api.request_timeout,
            )
            error = HTTPException(504, "Request timed out")
            self.put_response(transport, consumer, uid, error, LitAPIStatus.ERROR, self.kind)

    def fail(self, transport: MessageTransport, asked: Sequence[tuple[int, str]], error: Exception) -> None:
        """Answer requests with what a hook raised: HTTPExceptions as they are, else logged, as 500."""
        if not isinstance(error, HTTPException):
            logger.error("a request failed", exc_info=error)
        for consumer, uid in asked:
            if isinstance(error, HTTPException):
                self.put_response(transport, consumer, uid, error, LitAPIStatus.ERROR, self.kind)
            else:
                self.put_error_response(transport, consumer, uid, error, self.kind)

    def contexts(self, lit_api: Any, bodies: Sequence[Any]) -> list[dict[str, Any]]:
        """A fresh context for each request."""
        contexts: list[dict[str, Any]] = [{} for _ in bodies]
        if hasattr(lit_api.spec, "populate_context"):
            for context, body in zip(contexts, bodies, strict=True):
                lit_api.spec.populate_context(context, body)
        return contexts
