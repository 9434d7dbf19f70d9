"""Hyperparameters on their way to a place that takes only simple values."""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, cast

import torch

Params = Mapping[str, Any] | Namespace


def as_mapping(params: Params | None) -> dict[str, Any]:
    """`params` as a dict: those of a Namespace or dataclass too."""
    if params is None:
        return {}
    if isinstance(params, Mapping):
        return dict(params)
    return asdict(cast("Any", params)) if is_dataclass(params) else dict(vars(params))


def plain_params(params: Params | None, separator: str = "/") -> dict[str, Any]:
    """`params` with nested mappings and lists flattened to "outer/inner", and everything unusual as text."""
    flat: dict[str, Any] = {}
    for key, value in as_mapping(params).items():
        inner = _inner(value)
        if inner:
            nested = plain_params(inner, separator)
            flat.update({f"{key}{separator}{name}": item for name, item in nested.items()})
        else:
            flat[str(key)] = plain(value)
    return flat


def plain(value: Any) -> Any:
    """A number, text, truth value or None as it is, a tensor of one element as its number, else text."""
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return value.item()
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    return getattr(value, "__name__", None) or str(value)


def nested_params(value: Any) -> Any:
    """`value` with its mappings and lists kept, and everything else that is unusual as text."""
    if isinstance(value, (Mapping, Namespace)) or (is_dataclass(value) and not isinstance(value, type)):
        return {str(key): nested_params(item) for key, item in as_mapping(cast("Any", value)).items()}
    if isinstance(value, (list, tuple, set)):
        return [nested_params(item) for item in cast("list[Any]", value)]
    return plain(value)


def with_prefix(metrics: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """`metrics` with `prefix-` before every name; as they are without a prefix."""
    return {f"{prefix}-{name}": value for name, value in metrics.items()} if prefix else dict(metrics)


def _inner(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, (Mapping, Namespace)) or (is_dataclass(value) and not isinstance(value, type)):
        return as_mapping(cast("Any", value))
    if isinstance(value, (list, tuple)):
        return {str(index): item for index, item in enumerate(cast("list[Any]", value))}
    return None
