"""How a batch travels: arrays, tensors, bytes and text lie in a slot, and only their places in the pipe."""

from typing import Any, NamedTuple, cast

import numpy as np

from blixt.data.filemap import confirm
from blixt.data.loader.collate import is_tensor
from blixt.data.loader.ring import Slot

_BYTES = (bytes, bytearray, memoryview)
_PLAIN = frozenset((int, float, bool, str, bytes, type(None)))


class InSlot(NamedTuple):
    """An array in the slot."""

    at: int
    dtype: Any
    shape: tuple[int, ...]
    tensor: bool


class Joined(NamedTuple):
    """A list of bytes or of texts, one after the other in the slot."""

    at: int
    sizes: list[int]
    text: bool


class Packed(NamedTuple):
    """A batch without what lies in the slot, and the first leaf that had to be pickled, if any."""

    tree: Any
    pickled: str | None


def pack(batch: Any, slot: Slot) -> Packed:
    """Move a batch's leaves to the slot; arrays that were allocated there stay where they are."""
    odd: list[str] = []
    return Packed(_pack(batch, slot, odd, ""), odd[0] if odd else None)


def unpack(
    tree: Any, root: np.ndarray[Any, np.dtype[np.uint8]], base: int, *, views: bool, copy: bool
) -> Any:
    """Return the batch whose leaves lie in `root`, the bytes of the ring from `base` on.

    Args:
        tree: what `pack` made.
        root: the slot.
        base: where the slot begins in the ring.
        views: give memoryviews instead of bytes.
        copy: give arrays memory of their own.
    """
    kind = cast(Any, type(tree))
    if kind is InSlot:
        size = tree.dtype.itemsize
        for side in tree.shape:
            size *= side
        array = root[tree.at - base : tree.at - base + size].view(tree.dtype).reshape(tree.shape)
        array = array.copy() if copy else array
        return _as_tensor(array) if tree.tensor else array
    if kind is Joined:
        return _split(tree, root[tree.at - base :], views=views and not copy)
    if kind is dict:
        return {key: unpack(child, root, base, views=views, copy=copy) for key, child in tree.items()}
    if kind is list:
        return [unpack(child, root, base, views=views, copy=copy) for child in tree]
    if isinstance(tree, tuple):
        items = [unpack(child, root, base, views=views, copy=copy) for child in cast("Any", tree)]
        return kind(*items) if hasattr(kind, "_fields") else kind(items)
    return tree


def _pack(node: Any, slot: Slot, odd: list[str], path: str) -> Any:
    if isinstance(node, np.ndarray):
        return _pack_array(cast("np.ndarray[Any, Any]", node), slot, odd, path, tensor=False)
    kind = cast(Any, type(node))
    if kind is dict:
        return {key: _pack(child, slot, odd, f"{path}.{key}") for key, child in node.items()}
    if kind is list:
        return _pack_list(node, slot, odd, path)
    if isinstance(node, tuple):
        items = [_pack(child, slot, odd, f"{path}.{i}") for i, child in enumerate(cast("Any", node))]
        return kind(*items) if hasattr(kind, "_fields") else kind(items)
    if is_tensor(node):
        try:
            array = node.detach().numpy()
        except (TypeError, RuntimeError):  # not on the CPU, or a type that numpy lacks
            odd.append(f"{path or 'the batch'} is a {node.dtype} tensor on {node.device}")
            return node
        return _pack_array(array, slot, odd, path, tensor=True)
    if kind not in _PLAIN and not isinstance(node, np.generic):
        odd.append(f"{path or 'the batch'} is a {kind.__name__}")
    return cast(Any, bytes(cast(memoryview, node)) if kind is memoryview else node)


def _pack_array(array: np.ndarray[Any, Any], slot: Slot, odd: list[str], path: str, *, tensor: bool) -> Any:
    if array.dtype.hasobject:
        odd.append(f"{path or 'the batch'} is an array of {array.dtype}")
        return array
    at = slot.offset_of(array)
    if at is None:
        place = slot.allocate(array.shape, array.dtype)
        at = slot.offset_of(place)
        if at is None:
            odd.append(f"{path or 'the batch'} does not fit into the slot")
            return array
        place[...] = array
    return InSlot(at, array.dtype, array.shape, tensor)


def _pack_list(items: list[Any], slot: Slot, odd: list[str], path: str) -> Any:
    first = items[0] if items else None
    if isinstance(first, str) and all(type(item) is str for item in items):
        return _join([item.encode("utf-8", "surrogatepass") for item in items], items, slot, text=True)
    if isinstance(first, _BYTES) and all(isinstance(item, _BYTES) for item in items):
        return _join(items, [bytes(item) for item in items] if slot.overflowed else items, slot, text=False)
    return [_pack(item, slot, odd, f"{path}.{i}") for i, item in enumerate(items)]


def _join(parts: list[Any], items: list[Any], slot: Slot, *, text: bool) -> Any:
    sizes = [len(part) for part in parts]
    place = slot.allocate((sum(sizes),), np.uint8)
    at = slot.offset_of(place)
    if at is None:
        copies = [bytes(item) if type(item) is memoryview else item for item in items]
        confirm(item for item in items if type(item) is memoryview)
        return copies
    out, low = memoryview(cast(Any, place)), 0
    for part, size in zip(parts, sizes, strict=True):
        out[low : low + size] = part
        low += size
    confirm(part for part in parts if type(part) is memoryview)
    return Joined(at, sizes, text)


def _split(joined: Joined, memory: np.ndarray[Any, np.dtype[np.uint8]], *, views: bool) -> list[Any]:
    data, low = memoryview(cast(Any, memory)), 0
    parts: list[Any] = []
    for size in joined.sizes:
        part = data[low : low + size]
        parts.append(str(part, "utf-8", "surrogatepass") if joined.text else part if views else bytes(part))
        low += size
    return parts


def _as_tensor(array: np.ndarray[Any, Any]) -> Any:
    from importlib import import_module

    return import_module("torch").from_numpy(array)
