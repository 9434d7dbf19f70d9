"""The nesting of LitData's samples: torch's pytree as JSON, compiled to a function that rebuilds a sample."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from blixt.data.errors import FormatError

Build = Callable[[Iterator[Any]], Any]
_DICTS = ("builtins.dict", "collections.OrderedDict")
_SEQUENCES: dict[str, Callable[[list[Any]], Any]] = {
    "builtins.list": list,
    "builtins.tuple": tuple,
    "collections.deque": list,
    "collections.namedtuple": tuple,
}


def compile_tree(spec: str | None) -> Build:
    """Return a function that takes leaves in order and returns the sample.

    Args:
        spec: `data_spec` of the index: `[1, node]` as JSON; None is a single leaf.

    Raises:
        FormatError: when a container is not known here, or the text is not a tree.
    """
    if spec is None:
        return next
    try:
        return _node(json.loads(spec)[1])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise FormatError(f"data_spec in index.json is damaged: {type(error).__name__}: {error}") from None


def _node(node: dict[str, Any]) -> Build:
    kind = node["type"]
    if kind is None:
        return next
    children = [_node(child) for child in node["children_spec"]]
    if kind in _DICTS:
        keys = json.loads(node["context"])
        return lambda leaves: {key: child(leaves) for key, child in zip(keys, children, strict=True)}
    if kind in _SEQUENCES:
        make = _SEQUENCES[kind]
        return lambda leaves: make([child(leaves) for child in children])
    raise FormatError(f"samples hold a {kind}, which cannot be rebuilt here; dicts, lists and tuples can")
