"""Answers in pieces: one by one, side by side if the hooks are async, or a batch of streams in step."""

import asyncio
from typing import Any

from ..callbacks import CallbackRunner
from ..status import LitAPIStatus, LoopResponseType
from ..transport.base import MessageTransport
from .base import DefaultLoop
from .collect import Request
from .hooks import Hooks
from .simple_loops import side_by_side


class _Pieces(DefaultLoop):
    kind = LoopResponseType.STREAMING

    def piece(self, lit_api: Any, transport: MessageTransport, asked: tuple[int, str], data: Any) -> None:
        """Send one piece."""
        line = lit_api.format_encoded_response(data)
        self.put_response(transport, *asked, line, LitAPIStatus.OK, self.kind)

    def finish(self, transport: MessageTransport, asked: tuple[int, str]) -> None:
        """Tell that there are no more."""
        self.put_response(transport, *asked, "", LitAPIStatus.FINISH_STREAMING, self.kind)


class StreamingLoop(_Pieces):
    """One stream after the other."""

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
        serve = self.run_streaming_loop_async if lit_api.enable_async else self.run_streaming_loop
        serve(lit_api, request_queue, transport, callback_runner)

    def run_streaming_loop(
        self, lit_api: Any, request_queue: Any, transport: MessageTransport, callback_runner: CallbackRunner
    ) -> None:
        """One by one."""
        self.one_by_one(self._answer, lit_api, request_queue, transport, callback_runner)

    def _answer(
        self, request: Request, lit_api: Any, transport: MessageTransport, callback_runner: CallbackRunner
    ) -> None:
        asked = request[:2]
        try:
            hooks = Hooks(lit_api, callback_runner, self.contexts(lit_api, [request.body])[0])
            outputs = hooks.call("predict", hooks.call("decode_request", request.body))
            for data in hooks.call("encode_response", outputs):
                self.piece(lit_api, transport, asked, data)
            self.finish(transport, asked)
        except Exception as error:
            self.fail(transport, [asked], error)

    async def _process_streaming_request(
        self, request: Any, lit_api: Any, transport: MessageTransport, callback_runner: CallbackRunner
    ) -> None:
        consumer, uid, _, body = request
        try:
            hooks = Hooks(lit_api, callback_runner, self.contexts(lit_api, [body])[0])
            outputs = await hooks.acall("predict", await hooks.acall("decode_request", body))
            async for data in await hooks.acall("encode_response", outputs):
                self.piece(lit_api, transport, (consumer, uid), data)
            self.finish(transport, (consumer, uid))
        except Exception as error:
            self.fail(transport, [(consumer, uid)], error)

    def run_streaming_loop_async(
        self, lit_api: Any, request_queue: Any, transport: MessageTransport, callback_runner: CallbackRunner
    ) -> None:
        """Side by side."""
        answer = self._process_streaming_request
        asyncio.run(side_by_side(self, answer, lit_api, request_queue, transport, callback_runner))


class BatchedStreamingLoop(_Pieces):
    """A batch of streams, which go on step by step until the longest has ended."""

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
        self.run_batched_streaming_loop(lit_api, request_queue, transport, callback_runner)

    def run_batched_streaming_loop(
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
            split = hooks.call("unbatch", hooks.call("predict", joined))
            for step in hooks.call("encode_response", split):
                for who, data in zip(asked, step, strict=False):
                    self.piece(lit_api, transport, who, data)
            for who in asked:
                self.finish(transport, who)
        except Exception as error:
            self.fail(transport, asked, error)
