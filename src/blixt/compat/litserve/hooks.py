"""What a LitAPI's hooks are like: generators, async, wanting a context."""

import inspect
from collections.abc import Callable
from typing import Any

HOOKS = ("decode_request", "batch", "predict", "unbatch", "encode_response")


def is_async(function: Callable[..., Any]) -> bool:
    """Whether it is a coroutine function or an async generator function."""
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether it is a generator function, sync or async."""
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def wants_context(function: Callable[..., Any]) -> bool:
    """Whether it has a parameter named `context`."""
    try:
        return "context" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def body_model(function: Callable[..., Any]) -> Any:
    """The pydantic model that a hook's first parameter is annotated with, or None."""
    import typing

    from pydantic import BaseModel

    try:
        hints = typing.get_type_hints(function)
        names = [name for name in inspect.signature(function).parameters if name != "context"]
    except (TypeError, ValueError, NameError):
        return None
    annotation = hints.get(names[0]) if names else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
