"""A LitAPI's hooks as loops call them: with a context if they want one, awaited if need be."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

from ..callbacks import CallbackRunner
from ..hooks import wants_context


def inject_context(context: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a hook, with its context if it has a parameter of that name."""
    if wants_context(function):
        kwargs["context"] = context
    return function(*args, **kwargs)


async def inject_context_async(context: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`inject_context`, for hooks of any kind."""
    if wants_context(function):
        kwargs["context"] = context
    return await call_async(function, *args, **kwargs)


async def call_async(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a function gives: a coroutine function's result, an async generator; a plain one is asyncified."""
    if inspect.isasyncgenfunction(function):
        return function(*args, **kwargs)
    if inspect.iscoroutinefunction(function):
        return await function(*args, **kwargs)
    result = await asyncified(function, *args, **kwargs)
    return await result if inspect.isawaitable(result) else result


async def asyncified(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A plain function's result, from a thread; of a generator function an async generator."""
    if inspect.isgeneratorfunction(function):
        return _each(function, args, kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)


async def _each(function: Callable[..., Any], args: Any, kwargs: Any) -> AsyncIterator[Any]:
    for item in function(*args, **kwargs):
        yield item


class Hooks:
    """The hooks of one request, or of one batch, with callbacks told before and after.

    Args:
        lit_api: Whose.
        runner: Told.
        context: The request's dict; of a batch, the list of them.
    """

    def __init__(self, lit_api: Any, runner: CallbackRunner, context: Any) -> None:
        self._api = lit_api
        self._runner = runner
        self.context = context

    def call(self, hook: str, value: Any) -> Any:
        """One hook."""
        self._tell("before", hook)
        result = inject_context(self.context, getattr(self._api, hook), value)
        self._tell("after", hook)
        return result

    def each(self, hook: str, values: list[Any]) -> list[Any]:
        """One hook for every request of a batch, callbacks told once."""
        self._tell("before", hook)
        function = getattr(self._api, hook)
        pairs = zip(values, self.context, strict=True)
        results = [inject_context(context, function, value) for value, context in pairs]
        self._tell("after", hook)
        return results

    async def acall(self, hook: str, value: Any) -> Any:
        """One hook of any kind."""
        self._tell("before", hook)
        result = await inject_context_async(self.context, getattr(self._api, hook), value)
        self._tell("after", hook)
        return result

    def _tell(self, when: str, hook: str) -> None:
        if hook not in ("batch", "unbatch"):
            self._runner.trigger_event(f"on_{when}_{hook}", lit_api=self._api)
