"""A LitAPI as one of blixt's: the same hooks in the same order, with LitServe's context and streams."""

# Hooks may take a context or not, and be async or not; a base class cannot say so in types.
# pyright: reportIncompatibleMethodOverride=false

import inspect
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any, cast

from blixt.serve import API, HTTPError
from blixt.serve.batching import Policy

from .api import LitAPI
from .hooks import HOOKS, body_model, wants_context
from .pieces import UNHANDLED, wrap
from .specs.queues import Queued, carried

logger = logging.getLogger("litserve")
MANY = 1000


class Adapter(API):
    """What all adapters share. Made by `adapt`."""

    def __init__(self, lit: LitAPI) -> None:
        spec = lit.spec
        self.lit = lit
        self._wants = {hook: wants_context(getattr(lit, hook)) for hook in HOOKS}
        self._model = body_model(lit.decode_request) if spec is None else None
        wire = None if spec is None else spec.wire(lit)
        self._is_queued = isinstance(wire, Queued)
        super().__init__(
            # A spec's streams run side by side: batches of them would wait for their slowest.
            max_batch_size=1 if spec is not None and spec.stream else lit.max_batch_size,
            batch_timeout_s=lit.batch_timeout,
            loop=in_worker(lit.loop),
            api_path=lit.api_path,
            stream=lit.stream if spec is None else None,
            spec=wire,
            mcp=None if lit.mcp is None else lit.mcp.wire(),
            max_streams=MANY if lit.enable_async else None,
        )
        authorize = getattr(lit, "authorize", None)
        if authorize is not None:
            self.authorize: Callable[..., Any] = authorize

    @property
    def described(self) -> API:
        """The LitAPI's hooks have the annotations."""
        return cast(API, self.lit)

    def policy(self) -> Policy:
        """A loop of LitServe's makes its batches itself: it is sent what it may want of single requests."""
        policy = super().policy()
        if self.loop is self.lit.loop:
            return policy
        slots = policy.slots or (MANY if self.lit.enable_async else 2 * self.lit.max_batch_size)
        return replace(policy, max_batch_size=1, batch_timeout_s=0.0, slots=slots)

    def setup(self, device: str, /) -> None:
        """Tell the LitAPI where it is, and set it up."""
        os.environ["LITSERVE_WORKER_ID"] = os.environ.get("BLIXT_SERVE_WORKER", "0")
        self.lit.device = device
        vars(self.lit)["_send_log"] = self.log
        if self._is_queued and self.lit.enable_async and self.lit.spec is not None:
            self.lit.spec = self.lit.spec.as_async()
        self.lit.setup(device)

    def health(self) -> Any:
        """What the LitAPI says."""
        return self.lit.health()

    def call_hook(self, hook: str, value: Any, context: Any) -> Any:
        """One of the LitAPI's hooks."""
        function = getattr(self.lit, hook)
        return function(value, context=context) if self._wants[hook] else function(value)

    def opened(self, request: Any, context: Any) -> Any:
        """What `decode_request` gets: the body, validated if a model asks for it."""
        populate = getattr(self.lit.spec, "populate_context", None)
        if populate is not None:
            populate(context, request)
        return request if self._model is None else validated(self._model, request)

    def piece(self, data: Any) -> Any:
        """An encoded piece as the front takes it."""
        if self._is_queued:
            return carried(self.lit.format_encoded_response(data))
        if self.lit.spec is not None:
            return self.lit.spec.piece(data)
        return wrap(self.lit.format_encoded_response(data))

    def last_piece(self) -> Any:
        """What ends a stream, if there is anything besides its end."""
        return None if self._is_queued or self.lit.spec is None else self.lit.spec.last_piece()


class Whole(Adapter):
    """One answer a request, perhaps in batches."""

    def decode_request(self, request: Any, context: Any) -> Any:
        """LitAPI's."""
        return guarded(self.call_hook, "decode_request", self.opened(request, context), context)

    def batch(self, inputs: Any, context: Any) -> Any:
        """LitAPI's."""
        return guarded(self.call_hook, "batch", inputs, context)

    def predict(self, x: Any, context: Any) -> Any:
        """LitAPI's."""
        return guarded(self.call_hook, "predict", x, context)

    def unbatch(self, output: Any, context: Any) -> Any:
        """LitAPI's; as many outputs as there were requests."""
        outputs = list(guarded(self.call_hook, "unbatch", output, context))
        if len(outputs) != len(context):
            logger.error("a batch of %d gave %d outputs", len(context), len(outputs))
            raise HTTPError(500, "Batch size mismatch")
        return outputs

    def encode_response(self, output: Any, context: Any) -> Any:
        """LitAPI's."""
        return guarded(self.call_hook, "encode_response", output, context)


class Streaming(Adapter):
    """An answer in pieces: LitServe hands `encode_response` the whole stream, and so does this."""

    def decode_request(self, request: Any, context: Any) -> Any:
        """LitAPI's."""
        return guarded(self.call_hook, "decode_request", self.opened(request, context), context)

    def batch(self, inputs: Any, context: Any) -> Any:
        """LitAPI's."""
        return guarded(self.call_hook, "batch", inputs, context)

    def predict(self, x: Any, context: Any) -> Iterator[Any]:
        """LitAPI's `predict` and `encode_response`, of one request or of a batch in step."""
        batched = self.lit.max_batch_size > 1
        if not batched:
            yield from map(self.piece, self._encoded(x, context))
        elif isinstance(context, list):
            for step in self._encoded(x, context, batched=True):
                yield [self.piece(data) for data in step]
        else:
            for step in self._encoded(self.batch([x], [context]), [context], batched=True):
                yield self.piece(step[0])

    def _encoded(self, x: Any, context: Any, batched: bool = False) -> Iterator[Any]:
        outputs = self.call_hook("predict", x, context)
        if batched:
            outputs = self.call_hook("unbatch", outputs, context)
        return self.call_hook("encode_response", outputs, context)


class AsyncWhole(Adapter):
    """One answer a request; the hooks are awaited if they are coroutines."""

    async def decode_request(self, request: Any, context: Any) -> Any:
        """LitAPI's."""
        return await awaited(self.call_hook, "decode_request", self.opened(request, context), context)

    async def predict(self, x: Any, context: Any) -> Any:
        """LitAPI's."""
        return await awaited(self.call_hook, "predict", x, context)

    async def encode_response(self, output: Any, context: Any) -> Any:
        """LitAPI's."""
        return await awaited(self.call_hook, "encode_response", output, context)


class AsyncStreaming(Adapter):
    """An answer in pieces from async generators."""

    async def decode_request(self, request: Any, context: Any) -> Any:
        """LitAPI's."""
        return await awaited(self.call_hook, "decode_request", self.opened(request, context), context)

    async def predict(self, x: Any, context: Any) -> AsyncIterator[Any]:
        """LitAPI's `predict` and `encode_response`."""
        outputs = self.call_hook("predict", x, context)
        if inspect.isawaitable(outputs):
            outputs = await outputs
        encoded = self.call_hook("encode_response", outputs, context)
        if inspect.isawaitable(encoded):
            encoded = await encoded
        if hasattr(encoded, "__aiter__"):
            async for data in encoded:
                yield self.piece(data)
        else:
            for data in encoded:
                yield self.piece(data)


def adapt(lit: LitAPI) -> Adapter:
    """The adapter for a LitAPI's kind of hooks."""
    streams = lit.stream
    if lit.enable_async:
        return AsyncStreaming(lit) if streams else AsyncWhole(lit)
    return Streaming(lit) if streams else Whole(lit)


def in_worker(loop: Any) -> Any:
    """A LitAPI's loop as ours; "auto" and what is one of ours already stay as they are."""
    if loop == "auto":
        return loop
    from .loops.base import LitLoop
    from .loops.on_channel import OnChannel

    return OnChannel(loop) if isinstance(loop, LitLoop) else loop


def guarded(function: Callable[..., Any], *args: Any) -> Any:
    """Call a hook; what it raises, besides HTTP errors, is logged and told as LitServe tells it."""
    try:
        return function(*args)
    except Exception as error:
        raise as_answer(error) from error


async def awaited(function: Callable[..., Any], *args: Any) -> Any:
    """`guarded`, for a hook that may be a coroutine function."""
    try:
        result = function(*args)
        return await result if inspect.isawaitable(result) else result
    except Exception as error:
        raise as_answer(error) from error


def as_answer(error: Exception) -> Exception:
    """An HTTP error as it is, anything else as a plain 500."""
    if isinstance(error, HTTPError) or hasattr(error, "status_code"):
        return error
    logger.error("a request failed", exc_info=error)
    return HTTPError(500, UNHANDLED)


def validated(model: Any, request: Any) -> Any:
    """The body as a pydantic model.

    Raises:
        HTTPError: 422, in FastAPI's shape.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(request)
    except ValidationError as error:
        items = error.errors(include_url=False, include_context=False)
        raise HTTPError(422, [{**item, "loc": ["body", *item["loc"]]} for item in items]) from None
