"""Which of the worker's loops serves an API, decided from its hooks and arguments."""

import inspect
from enum import Enum
from typing import TYPE_CHECKING, Any

from blixt.serve.batching import Policy
from blixt.serve.errors import ConfigError

if TYPE_CHECKING:
    from blixt.serve.api import API

HOOKS = ("decode_request", "batch", "predict", "unbatch", "encode_response")
CONTINUOUS_HOOKS = ("add_request", "step", "has_capacity", "has_active_requests")


class Mode(Enum):
    """A loop of `worker.loops`."""

    SINGLES = "one by one"
    BATCHES = "batches"
    STREAMS = "streams side by side"
    BATCHED_STREAMS = "a batch of streams in step"
    CONTINUOUS = "continuous batching"
    ASYNC = "async"
    CUSTOM = "the API's own loop"


def is_async(function: Any) -> bool:
    """Whether calling it gives something to await or to iterate with `async for`."""
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def streams(api: "API") -> bool:
    """Whether answers come in pieces."""
    return bool(api.stream) if api.spec is None else api.spec.streams


def mode_of(api: "API") -> Mode:
    """The loop an API needs.

    Raises:
        ConfigError: `setup` is async, or `enable_async` and the hooks disagree.
    """
    name = type(api).__name__
    if is_async(api.setup):
        raise ConfigError(f"{name}.setup is async; it runs once, before any request: write `def setup`.")
    hooks = {hook for hook in HOOKS if is_async(getattr(api, hook))}
    if api.enable_async and "predict" not in hooks and not api.has_session:
        raise ConfigError(f"{name}: enable_async=True, but predict is not async; write `async def predict`.")
    if api.enable_async is False and hooks:
        raise ConfigError(f"{name}.{min(hooks)} is async, but enable_async=False; drop one of the two.")
    if api.loop != "auto" and api.loop != "continuous":
        if not callable(getattr(api.loop, "run", None)):
            raise ConfigError(
                f"{name}: loop={api.loop!r} is not 'auto' and has no method run(plan, channel)."
            )
        return Mode.CUSTOM
    if hooks or api.has_session:
        return Mode.ASYNC
    if api.loop == "continuous" or all(callable(getattr(api, hook, None)) for hook in CONTINUOUS_HOOKS):
        return Mode.CONTINUOUS
    if streams(api):
        return Mode.BATCHED_STREAMS if api.max_batch_size > 1 else Mode.STREAMS
    return Mode.BATCHES if api.max_batch_size > 1 else Mode.SINGLES


def policy_of(api: "API") -> Policy:
    """What the hub must know of an API. Arguments are in range already, see `API.policy`."""
    mode, size = mode_of(api), api.max_batch_size
    slots = 0
    if mode is Mode.CONTINUOUS:
        slots, size = (size if size > 1 else api.max_streams), 1
    elif mode is Mode.ASYNC:
        slots = max(1, api.max_streams // size)
    elif mode is Mode.STREAMS or (mode is Mode.CUSTOM and streams(api)):
        slots = api.max_streams
    return Policy(
        max_batch_size=size,
        batch_timeout_s=api.batch_timeout_s,
        slots=slots,
        stream=streams(api),
        max_cost=api.max_cost,
        retries=int(api.retry_on_crash),
        cache_s=api.cache_s,
        cache_bytes=api.cache_bytes,
        context_fields=tuple(api.context_fields),
        adaptive_limit=api.adaptive_limit,
    )
