"""Constructors' arguments, and hyper-parameters made of them."""

import ast
import inspect
import math
from collections.abc import MutableMapping
from types import FrameType
from typing import Any, cast

from blixt.compat.lightning.own.checks import get_init_args, is_picklable
from blixt.fabric import rank_zero_warn


def clean_namespace(hparams: MutableMapping[str, Any]) -> None:
    """Leave out what cannot be pickled, each with a warning."""
    for name in [name for name, value in hparams.items() if not is_picklable(value)]:
        rank_zero_warn(f"{name} is left out of the hyper-parameters, because it cannot be pickled.")
        del hparams[name]


def parse_class_init_keys(cls: type) -> tuple[str, str | None, str | None]:
    """What the constructor calls its `self`, its `*args` and its `**kwargs`; None for what it has not.

    Example:
        >>> class Model:
        ...     def __init__(self, width, *layers, **rest): ...
        >>> parse_class_init_keys(Model)
        ('self', 'layers', 'rest')
    """
    parameters = list(inspect.signature(cls.__init__).parameters.values())
    by_kind = {parameter.kind: parameter.name for parameter in parameters[1:]}
    positional = by_kind.get(inspect.Parameter.VAR_POSITIONAL)
    return parameters[0].name, positional, by_kind.get(inspect.Parameter.VAR_KEYWORD)


def collect_init_args(
    frame: FrameType, path_args: list[dict[str, Any]], inside: bool = False, classes: tuple[type, ...] = ()
) -> list[dict[str, Any]]:
    """The arguments of each constructor on the way from a frame up to the most derived class's.

    Args:
        frame: Where to begin, in or below a constructor.
        path_args: What was found so far; it is extended.
        inside: Whether `frame` was called by such a constructor.
        classes: Only objects of these; default any.
    """
    at = frame
    while at.f_back is not None:
        values = at.f_locals
        owner = values.get(at.f_code.co_varnames[0]) if at.f_code.co_varnames else None
        if "__class__" in values and (not classes or isinstance(owner, classes)):
            inside = True
            path_args.append(get_init_args(at))
        elif inside:
            break
        at = at.f_back
    return path_args


def update_hparams(hparams: dict[str, Any], updates: dict[str, Any]) -> None:
    """Put values into nested dicts, each dict into its like.

    Example:
        >>> hparams = {"a": {"b": 1, "c": 2}}
        >>> update_hparams(hparams, {"a": {"b": 3}, "d": 4})
        >>> hparams
        {'a': {'b': 3, 'c': 2}, 'd': 4}
    """
    for name, value in updates.items():
        if isinstance(value, dict) and name in hparams:
            update_hparams(hparams[name], cast("dict[str, Any]", value))
        else:
            hparams[name] = value


def convert(val: str) -> int | float | bool | str:
    """The Python value that a text spells, or the text itself."""
    try:
        return ast.literal_eval(val)
    except (ValueError, SyntaxError):
        return val


def convert_inf(x: float | None) -> float | None:
    """The number for a progress bar's total: None for what is not finite."""
    return x if x is not None and math.isfinite(x) else None


def multiplicative(epoch: int) -> float:
    """By how much `BackboneFinetuning` multiplies the backbone's learning rate each epoch."""
    return 2.0


def get_torchvision_model(model_name: str, **kwargs: Any) -> Any:
    """One of torchvision's models by name.

    Raises:
        MissingPackageError: Without torchvision.
    """
    from blixt.fabric import MissingPackageError

    try:
        from torchvision import models  # pyright: ignore[reportMissingImports, reportUnknownVariableType]
    except ImportError as error:
        raise MissingPackageError("get_torchvision_model", "torchvision", error) from error
    return models.get_model(model_name, **kwargs)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
