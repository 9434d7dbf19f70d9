"""Whole answers: one by one, side by side if the hooks are async, or by batches."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from queue import Empty
from typing import Any

from fastapi import HTTPException

from ..callbacks import CallbackRunner
from ..status import LitAPIStatus
from ..transport.base import MessageTransport
from .base import DefaultLoop
from .collect import Request, StopLoop, take
from .hooks import Hooks

logger = logging.getLogger(__name__)
Answering = Callable[[Request, Any, MessageTransport, CallbackRunner], Awaitable[None]]


async def side_by_side(
    loop: DefaultLoop,
    answer: Answering,
    lit_api: Any,
    request_queue: Any,
    transport: MessageTransport,
    callback_runner: CallbackRunner,
) -> None:
    """A task for each request, until the sentinel comes (or Ctrl-C); then those that run are waited for."""
    tasks: set[asyncio.Task[Any]] = set()
    while True:
        try:
            request = await asyncio.to_thread(take, request_queue, timeout=1.0)
        except Empty:
            continue
        except (StopLoop, KeyboardInterrupt):
            break
        if loop.begun(lit_api, request, transport) is not None:
            work = answer(request, lit_api, transport, callback_runner)
            task = asyncio.ensure_future(work)
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)


class SingleLoop(DefaultLoop):
    """One request after the other."""

    def __call__(
        self,
        lit_api: Any,
        device: str,
        worker_id: int,
        request_queue: Any,
        transport: MessageTransport,
        workers_setup_status: dict[Any, str],
        callback_runner: CallbackRunner,
    ) -> None:
        """Serve until the sentinel comes."""
        serve = self._run_single_loop_with_async if lit_api.enable_async else self.run_single_loop
        serve(lit_api, request_queue, transport, callback_runner)

    def run_single_loop(
        self, lit_api: Any, request_queue: Any, transport: MessageTransport, callback_runner: CallbackRunner
    ) -> None:
        """One by one."""
        self.one_by_one(self._answer, lit_api, request_queue, transport, callback_runner)

    def _answer(
        self, request: Request, lit_api: Any, transport: MessageTransport, callback_runner: CallbackRunner
    ) -> None:
        try:
            hooks = Hooks(lit_api, callback_runner, self.contexts(lit_api, [request.body])[0])
            value = request.body
            for hook in ("decode_request", "predict", "encode_response"):
                value = hooks.call(hook, value)
            self.put_response(transport, request.consumer, request.uid, value, LitAPIStatus.OK, self.kind)
        except Exception as error:
            self.fail(transport, [request[:2]], error)

    async def _process_single_request(
        self, request: Any, lit_api: Any, transport: MessageTransport, callback_runner: CallbackRunner
    ) -> None:
        consumer, uid, _, value = request
        try:
            hooks = Hooks(lit_api, callback_runner, self.contexts(lit_api, [value])[0])
            for hook in ("decode_request", "predict", "encode_response"):
                value = await hooks.acall(hook, value)
            self.put_response(transport, consumer, uid, value, LitAPIStatus.OK, self.kind)
        except Exception as error:
            self.fail(transport, [(consumer, uid)], error)

    def _run_single_loop_with_async(
        self, lit_api: Any, request_queue: Any, transport: MessageTransport, callback_runner: CallbackRunner
    ) -> None:
        answer = self._process_single_request
        asyncio.run(side_by_side(self, answer, lit_api, request_queue, transport, callback_runner))


class BatchedLoop(DefaultLoop):
    """As many requests at once as come together."""

    def __call__(
        self,
        lit_api: Any,
        device: str,
        worker_id: int,
        request_queue: Any,
        transport: MessageTransport,
        workers_setup_status: dict[Any, str],
        callback_runner: CallbackRunner,
    ) -> None:
        """Serve until the sentinel comes."""
        self.run_batched_loop(lit_api, request_queue, transport, callback_runner)

    def run_batched_loop(
        self, lit_api: Any, request_queue: Any, transport: MessageTransport, callback_runner: CallbackRunner
    ) -> None:
        """Batch by batch."""
        self.batch_by_batch(self._answer_batch, lit_api, request_queue, transport, callback_runner)

    def _answer_batch(
        self,
        batch: list[tuple[int, str, Any]],
        lit_api: Any,
        transport: MessageTransport,
        callback_runner: CallbackRunner,
    ) -> None:
        asked = [(consumer, uid) for consumer, uid, _ in batch]
        bodies = [body for _, _, body in batch]
        try:
            hooks = Hooks(lit_api, callback_runner, self.contexts(lit_api, bodies))
            joined = hooks.call("batch", hooks.each("decode_request", bodies))
            outputs = list(hooks.call("unbatch", hooks.call("predict", joined)))
            if len(outputs) != len(batch):
                logger.error("a batch of %d gave %d outputs", len(batch), len(outputs))
                raise HTTPException(500, "Batch size mismatch")
            answers = hooks.each("encode_response", outputs)
            for (consumer, uid), answer in zip(asked, answers, strict=True):
                self.put_response(transport, consumer, uid, answer, LitAPIStatus.OK, self.kind)
        except Exception as error:
            self.fail(transport, asked, error)
