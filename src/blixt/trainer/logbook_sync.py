"""How ranks bring their (sum, weight) pairs together: one gather, whatever each of them has logged."""

import zlib
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.distributed as dist

from blixt.fabric import Fabric
from blixt.trainer.slots import Pair

_CHUNK = 32  # pairs a gather carries: 32 names fit into one message of half a kilobyte


def gather_pairs(
    names: Sequence[str], pairs: Sequence[Pair], fabric: Fabric, group: Any
) -> list[list[Pair]] | None:
    """The pairs of every rank of `group`, in the order of `names`.

    Every rank of the group must call it. How many names each has, and a fingerprint of them, travel in the
    same message; so ranks that logged other things find out instead of mixing up numbers or waiting forever.

    Returns:
        One list a rank, or None when the ranks have other names than each other.
    """
    mark = float(zlib.crc32("\n".join(names).encode()) & 0xFFFFFF)  # 24 bits are exact in 32-bit floats too
    head = _gather(fabric, group, [(float(len(names)), mark), *_chunk(pairs, 0)])
    longest = int(max(rank[0][0] for rank in head))
    columns = [rank[1:] for rank in head]
    for start in range(_CHUNK, longest, _CHUNK):
        for column, more in zip(columns, _gather(fabric, group, _chunk(pairs, start)), strict=True):
            column.extend(more)
    if any(rank[0] != head[0][0] for rank in head):
        return None
    return [column[: len(names)] for column in columns]


def gather_objects(item: Any, group: Any) -> list[Any]:
    """A picklable object of every rank of `group`."""
    items: list[Any] = [None] * dist.get_world_size(group)
    cast("Any", dist).all_gather_object(items, item, group=group)
    return items


def _chunk(pairs: Sequence[Pair], start: int) -> list[Pair]:
    part = list(pairs[start : start + _CHUNK])
    return part + [(0.0, 0.0)] * (_CHUNK - len(part))


def _gather(fabric: Fabric, group: Any, pairs: list[Pair]) -> list[list[Pair]]:
    dtype = torch.float32 if fabric.device.type == "mps" else torch.float64
    mine = torch.tensor(pairs, dtype=dtype, device=fabric.device)
    parts = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    cast("Any", dist).all_gather(parts, mine, group=group)
    ranks = cast("list[list[list[float]]]", cast("Any", torch.stack(parts)).tolist())
    return [[(total, weight) for total, weight in rank] for rank in ranks]
