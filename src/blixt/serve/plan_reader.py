"""What a body is read as: the annotation of the first hook that sees it."""

import inspect
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from blixt.serve.codec import Reader, decoder_for
from blixt.serve.codecs.arrays import is_array
from blixt.serve.errors import ConfigError
from blixt.serve.plan_hooks import is_overridden

if TYPE_CHECKING:
    from blixt.serve.api import API


def reader_of(api: "API") -> Reader:
    """The decoder of an API's bodies.

    Raises:
        ConfigError: An annotation cannot be resolved, or not be read from a body.
    """
    return decoder_for(body_type(api), f"{type(api).__name__}.{reading_hook(api)}", api.zero_copy)


def reading_hook(api: "API") -> str:
    """The hook that sees a body first."""
    if is_overridden(api, "decode_request"):
        return "decode_request"
    return "predict" if is_overridden(api, "predict") else "decode_request"


def body_type(api: "API") -> Any:
    """The type of a body, Any if nothing says."""
    hook = reading_hook(api)
    annotation = first_annotation(getattr(api, hook), f"{type(api).__name__}.{hook}")
    if hook == "decode_request" or api.max_batch_size == 1:
        return annotation
    own_batch = is_overridden(api, "batch")
    if is_array(annotation) and not own_batch:
        return annotation  # `batch` stacks arrays: a batch of them has the annotation of one
    if own_batch or typing.get_origin(annotation) is not list:
        return Any  # predict takes whatever `batch` makes, which says nothing about one body
    return typing.get_args(annotation)[0]


def first_annotation(function: Callable[..., Any], where: str) -> Any:
    """The annotation of a hook's first parameter besides the context."""
    try:
        names = [name for name in inspect.signature(function).parameters if name != "context"]
    except (TypeError, ValueError):
        return Any
    if not names:
        raise ConfigError(f"{where} takes no request; give it one parameter.")
    return hints_of(function, where).get(names[0], Any)


def hints_of(function: Callable[..., Any], where: str) -> dict[str, Any]:
    """A function's annotations, resolved."""
    try:
        return typing.get_type_hints(function)
    except NameError as error:
        raise ConfigError(f"{where}: its annotation cannot be resolved ({error}); import the name.") from None
    except TypeError:
        return {}
