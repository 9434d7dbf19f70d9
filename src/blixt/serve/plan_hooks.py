"""One hook, resolved: does it want the context, is it async, who is told before and after it?"""

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blixt.serve.callbacks import NO_EVENTS, Events
from blixt.serve.plan_mode import is_async

if TYPE_CHECKING:
    from blixt.serve.api import API

Call = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook as the loops use it.

    Attributes:
        call: `(value, context) -> value`; if `is_async`, the result is awaited.
        is_async: It is a coroutine function.
        is_generator: It is a generator function, sync or async.
        wants_context: It has a parameter named `context`.
    """

    call: Call
    is_async: bool = False
    is_generator: bool = False
    wants_context: bool = False


def hook_of(api: "API", name: str) -> Call:
    """An API's hook as `(value, context) -> value`."""
    return resolve(api, name, NO_EVENTS).call


def resolve(api: "API", name: str, events: Events) -> Hook:
    """Look at a hook once, so that nobody must again."""
    function = getattr(api, name)
    wants_context = _wants_context(function)
    call: Call = (
        (lambda value, context: function(value, context=context))
        if wants_context
        else (lambda value, context: function(value))
    )
    coroutine = inspect.iscoroutinefunction(function)
    generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    before, after = events.around(name)
    if before or after:
        call = _told_async(call, before, after, api) if coroutine else _told(call, before, after, api)
    return Hook(call, coroutine, generator, wants_context)


def is_overridden(api: "API", name: str) -> bool:
    """Whether the class (or the instance) has a hook of its own."""
    from blixt.serve.api import API

    return name in vars(api) or getattr(type(api), name) is not getattr(API, name)


def piecewise(api: "API", events: Events = NO_EVENTS) -> Callable[[Any, Any], Iterator[Any]] | None:
    """`(pieces, context) -> encoded pieces`, see `API.encode_response`; None if the API does not encode."""
    if not is_overridden(api, "encode_response"):
        return None
    hook = resolve(api, "encode_response", events)
    if hook.is_generator:
        return hook.call
    encode = hook.call
    return lambda pieces, context: (encode(piece, context) for piece in pieces)


def apiecewise(
    api: "API", events: Events = NO_EVENTS
) -> Callable[[AsyncIterator[Any], Any], AsyncIterator[Any]] | None:
    """As `piecewise`, for async iterators; `encode_response` may be sync or async, a generator or not."""
    if not is_overridden(api, "encode_response"):
        return None
    hook = resolve(api, "encode_response", events)
    if hook.is_generator and is_async(api.encode_response):
        return hook.call

    async def each(pieces: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for piece in pieces:
            if hook.is_generator:
                for out in hook.call(iter((piece,)), context):
                    yield out
            else:
                out = hook.call(piece, context)
                yield await out if hook.is_async else out

    return each


def _wants_context(function: Callable[..., Any]) -> bool:
    try:
        return "context" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False  # a builtin or an extension's callable: it has no signature, and no context


def _told(call: Call, before: tuple[Any, ...], after: tuple[Any, ...], api: "API") -> Call:
    def told(value: Any, context: Any) -> Any:
        for callback in before:
            callback(api)
        result = call(value, context)
        for callback in after:
            callback(api)
        return result

    return told


def _told_async(call: Call, before: tuple[Any, ...], after: tuple[Any, ...], api: "API") -> Call:
    async def told(value: Any, context: Any) -> Any:
        for callback in before:
            callback(api)
        result = await call(value, context)
        for callback in after:
            callback(api)
        return result

    return told
