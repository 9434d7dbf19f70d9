"""Continuous batching: requests join and leave a batch between its steps."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException

from ..callbacks import CallbackRunner
from ..status import LitAPIStatus, LoopResponseType
from ..transport.base import MessageTransport
from .base import LitLoop
from .collect import SENTINEL, StopLoop

logger = logging.getLogger(__name__)
STREAMING = LoopResponseType.STREAMING
LOOK_UP_S = 0.1


def notify_timed_out_requests(
    response_queues: Sequence[Any], timed_out_uids: Sequence[tuple[int, str]]
) -> None:
    """Put 504 into the queues of those whose requests waited too long."""
    for consumer, uid in timed_out_uids:
        logger.error("Request %s was waiting in the queue for too long and has been timed out.", uid)
        error = HTTPException(504, "Request timed out")
        response_queues[consumer].put((uid, (error, LitAPIStatus.ERROR, STREAMING)))


@dataclass
class Output:
    """What a step made for one request.

    Attributes:
        uid: The request's, as `add_request` got it.
        output: One piece, as `encode_response` wants it.
        status: One of `LitAPIStatus`: OK, ERROR, or FINISH_STREAMING, whose output is not sent.
    """

    uid: str
    output: Any
    status: str


class ContinuousBatchingLoop(LitLoop):
    """The loop of a LitAPI with `add_request(uid, request)`, `step(previous)`, `has_capacity()` and
    `has_active_requests()`.

    Args:
        max_sequence_length: For subclasses that count.
        no_pending_requests: Take no request from the queue while others are worked on.
        sleep_delay: Seconds between two looks at a step that gave nothing.
    """

    def __init__(
        self, max_sequence_length: int = 2048, no_pending_requests: bool = False, sleep_delay: float = 0.001
    ) -> None:
        super().__init__()
        self.active_sequences: dict[str, dict[str, Any]] = {}
        self.max_sequence_length = max_sequence_length
        self.no_pending_requests = no_pending_requests
        self.sleep_delay = sleep_delay
        self._joined: asyncio.Event | None = None

    def pre_setup(self, lit_api: Any, spec: Any = None) -> None:
        """The LitAPI must stream, and have `step`, or `predict` and `has_finished`.

        Raises:
            ValueError: It does not.
        """
        if not lit_api.stream:
            raise ValueError(
                "Continuous batching loop requires streaming to be enabled. "
                "Please set LitServe(..., stream=True)"
            )
        if not hasattr(lit_api, "step") and not hasattr(lit_api, "has_finished"):
            raise ValueError(
                f"{type(lit_api).__name__} has no step(previous) method; write one, or "
                "predict(inputs, generated) and has_finished(uid, token, max_sequence_length)."
            )

    def add_request(
        self, uid: str, request: Any, lit_api: Any, lit_spec: Any, transport: MessageTransport | None = None
    ) -> None:
        """A request joins."""
        lit_api.add_request(uid, request)
        self.active_sequences[uid] = {"input": request}

    def mark_completed(self, uid: str) -> None:
        """A request has its whole answer."""
        del self.active_sequences[uid]
        del self.response_queue_ids[uid]

    def has_capacity(self, lit_api: Any) -> bool:
        """Whether another may join."""
        return lit_api.has_capacity()

    def has_active_requests(self, lit_api: Any) -> bool:
        """Whether a step would do anything."""
        return lit_api.has_active_requests()

    async def step(self, prev_outputs: list[Output] | None, lit_api: Any, lit_spec: Any) -> list[Output]:
        """One step of all that are active, in a thread."""
        return await asyncio.to_thread(lit_api.step, prev_outputs)

    async def schedule_task(
        self, lit_api: Any, lit_spec: Any, request_queue: Any, transport: MessageTransport
    ) -> None:
        """Let requests join while there is room, until the sentinel comes."""
        while True:
            while not self._may_take(lit_api):
                await asyncio.sleep(self.sleep_delay)
            item = await asyncio.to_thread(self.get_request, request_queue, timeout=1.0)
            if item is None:
                continue
            if item == SENTINEL:
                raise StopLoop
            consumer, uid, _, body = item
            self.put_response(transport, consumer, uid, (), LitAPIStatus.START, STREAMING)
            self.response_queue_ids[uid] = consumer
            try:
                self.add_request(uid, body, lit_api, lit_spec, transport)
            except Exception as error:
                del self.response_queue_ids[uid]
                self._fail({uid: consumer}, transport, error)
            if self._joined is not None:
                self._joined.set()

    async def rest(self) -> None:
        """Wait until a request joins."""
        joined = self._joined = self._joined or asyncio.Event()
        with suppress(TimeoutError):
            await asyncio.wait_for(joined.wait(), LOOK_UP_S)
        joined.clear()

    def _may_take(self, lit_api: Any) -> bool:
        busy = self.no_pending_requests and self.has_active_requests(lit_api)
        return not busy and self.has_capacity(lit_api)

    async def run(
        self,
        lit_api: Any,
        device: str,
        worker_id: int,
        request_queue: Any,
        transport: MessageTransport,
        workers_setup_status: dict[Any, str],
        callback_runner: CallbackRunner,
    ) -> None:
        """Steps, as long as there is anything to do."""
        outputs: list[Output] | None = None
        try:
            while self.has_active_requests(lit_api):
                outputs = await self.step(outputs, lit_api, lit_api.spec)
                for output in outputs:
                    self._send(output, lit_api, transport)
                await asyncio.sleep(0 if outputs else self.sleep_delay)
        except Exception as error:
            failed = dict(self.response_queue_ids)
            self.response_queue_ids.clear()
            self.active_sequences.clear()
            self._fail(failed, transport, error)

    def _send(self, output: Output, lit_api: Any, transport: MessageTransport) -> None:
        uid, status = output.uid, output.status
        data = lit_api.format_encoded_response(lit_api.encode_response(output.output))
        consumer = self.response_queue_ids[uid]
        if status == LitAPIStatus.ERROR:
            self.put_error_response(transport, consumer, uid, HTTPException(500, str(data)), STREAMING)
        else:
            self.put_response(transport, consumer, uid, data, status, STREAMING)
        if status != LitAPIStatus.OK:
            self.mark_completed(uid)

    def _fail(self, asked: dict[str, int], transport: MessageTransport, error: Exception) -> None:
        logger.error("continuous batching failed", exc_info=error)
        for uid, consumer in asked.items():
            self.put_error_response(transport, consumer, uid, error, STREAMING)


class DefaultContinuousBatchingLoop(ContinuousBatchingLoop):
    """Steps a LitAPI that only has `predict(inputs, generated)`, the next token of each sequence, and
    `has_finished(uid, token, max_sequence_length)`.
    """

    def add_request(
        self, uid: str, request: Any, lit_api: Any, lit_spec: Any, transport: MessageTransport | None = None
    ) -> None:
        """A sequence joins."""
        self.active_sequences[uid] = {"input": lit_api.decode_request(request), "generated_sequence": []}

    def has_capacity(self, lit_api: Any) -> bool:
        """A batch holds `max_batch_size` sequences."""
        return len(self.active_sequences) < lit_api.max_batch_size

    def has_active_requests(self, lit_api: Any) -> bool:
        """Whether there are sequences."""
        return bool(self.active_sequences)

    async def step(self, prev_outputs: list[Output] | None, lit_api: Any, lit_spec: Any) -> list[Output]:
        """One token for each sequence."""
        sequences = dict(self.active_sequences)
        inputs = [sequence["input"] for sequence in sequences.values()]
        generated = [sequence["generated_sequence"] for sequence in sequences.values()]
        tokens = await asyncio.to_thread(lit_api.predict, inputs, generated)
        outputs: list[Output] = []
        for (uid, sequence), token in zip(sequences.items(), tokens, strict=True):
            sequence["generated_sequence"].append(token)
            outputs.append(Output(uid, token, LitAPIStatus.OK))
            if lit_api.has_finished(uid, token, self.max_sequence_length):
                outputs.append(Output(uid, "", LitAPIStatus.FINISH_STREAMING))
        return outputs
