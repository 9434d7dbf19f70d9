"""States that no process has the whole of, and how a checkpoint's content is divided around them.

A sharded checkpoint is a directory: the tensors of `ShardedState`s in torch's distributed checkpoint format,
and everything else in `meta.pt`, which is written last. In `meta.pt` each such state leaves behind its place,
and its values that are no tensors.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch

MARK = "blixt_sharded"
"""Key under which `meta.pt` says where in the directory a state's tensors are."""

Path = tuple[str, ...]


class ShardedState(dict[str, Any]):
    """A nested dict of which each process holds its part; what is sharded goes to the directory."""


def divide(content: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors of all sharded states as one nested dict, and the content that is left for `meta.pt`."""
    tensors: dict[str, Any] = {}
    return tensors, cast("dict[str, Any]", _divide(content, (), tensors))


def merge(parts: list[Any]) -> Any:
    """What is left of the same content on several processes, as one: stages know of different parameters."""
    first: Any = parts[0]
    if isinstance(first, dict):
        keys = dict.fromkeys(key for part in parts for key in part)
        return {key: merge([part[key] for part in parts if key in part]) for key in keys}
    if isinstance(first, list) and all(isinstance(part, list) for part in parts):
        if all(isinstance(item, str) for part in parts for item in part):
            return list(dict.fromkeys(item for part in parts for item in part))
        return [merge(list(items)) for items in zip(*parts, strict=False)]
    return cast("Any", first)


def _divide(item: Any, path: Path, tensors: dict[str, Any]) -> Any:
    if isinstance(item, ShardedState):
        found, plain = _split_state(item)
        _put(tensors, path, found)
        return {MARK: list(path), "values": plain}
    if isinstance(item, Mapping):
        pairs = cast("Mapping[Any, Any]", item).items()
        return {key: _divide(value, (*path, str(key)), tensors) for key, value in pairs}
    if isinstance(item, list):
        items = enumerate(cast("list[Any]", item))
        return [_divide(value, (*path, str(index)), tensors) for index, value in items]
    return item


def _split_state(state: Mapping[Any, Any]) -> tuple[dict[str, Any], dict[Any, Any]]:
    """Tensors and everything else of nested dicts, each in the same nesting."""
    tensors: dict[str, Any] = {}
    plain: dict[Any, Any] = {}
    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            tensors[str(key)] = value
        elif isinstance(value, Mapping):
            inner, rest = _split_state(cast("Mapping[Any, Any]", value))
            if inner:
                tensors[str(key)] = inner
            if rest or not inner:
                plain[key] = rest
        else:
            plain[key] = value
    return tensors, plain


def _put(tree: dict[str, Any], path: Path, leaf: dict[str, Any]) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = leaf
