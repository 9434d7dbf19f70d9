"""What ranks tell of themselves, and who is to blame by it: nothing here waits or talks to anybody."""

import json
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

Taken = dict[str, int]
"""In how many collectives of a group a rank has taken part, by the group's ranks: {"0,1,2": 7, "0,1": 4}."""


@dataclass(frozen=True)
class Beat:
    """A sign of life.

    Attributes:
        count: Grows with each beat.
        taken: Of the groups that this rank is in.
    """

    count: int
    taken: Taken

    def text(self) -> str:
        """For the store."""
        return json.dumps([self.count, self.taken])

    @classmethod
    def of(cls, text: bytes | str) -> "Beat":
        """From the store."""
        return cls(*json.loads(text))


@dataclass(frozen=True)
class Behind:
    """Ranks for which another waits in a collective.

    Attributes:
        ranks: Who did not come.
        taken: In how many collectives of the group they took part.
        waiting: A rank that took part in more.
        waits_in: Which one that is.
        group: The ranks of the group; empty for all ranks.
    """

    ranks: tuple[int, ...]
    taken: int
    waiting: int
    waits_in: int
    group: tuple[int, ...] = ()

    def __str__(self) -> str:
        of = f" of ranks {_join(self.group)}" if self.group else ""
        return (
            f"rank {_join(self.ranks)} hangs: alive, but it took part in {self.taken} collective "
            f"operations{of} and rank {self.waiting} in {self.waits_in}"
        )


def taken_part() -> Taken:
    """This process's counts, of all groups it is in."""
    if not dist.is_initialized():
        return {}
    found: Taken = {}
    torch_groups: Any = dist.distributed_c10d._world.pg_map  # pyright: ignore[reportPrivateUsage]
    for group in list(torch_groups):
        ranks: Any = dist.get_process_group_ranks(group)
        name = ",".join(map(str, ranks))
        while name in found:  # another group of the same ranks, made later, everywhere
            name += "+"
        try:
            found[name] = group._get_sequence_number_for_group()
        except RuntimeError:
            found[name] = 0
    return found


def find_behind(beats: dict[int, Beat], asking: int, world_size: int) -> Behind | None:
    """Who keeps `asking` waiting, in the end: a rank that itself waits for another is not to blame."""
    return _follow(beats, asking, world_size, frozenset())


def _follow(beats: dict[int, Beat], asking: int, world_size: int, seen: frozenset[int]) -> Behind | None:
    mine = beats[asking].taken
    for name in sorted(mine, key=lambda name: -len(_ranks(name))):
        members = [r for r in _ranks(name) if r != asking and r in beats and name in beats[r].taken]
        least = min((beats[rank].taken[name] for rank in members), default=mine[name])
        if least >= mine[name]:
            continue
        slow = tuple(rank for rank in members if beats[rank].taken[name] == least)
        for rank in slow:
            deeper = None if rank in seen else _follow(beats, rank, world_size, seen | {asking})
            if deeper is not None:
                return deeper
        group = _ranks(name) if len(_ranks(name)) < world_size else ()
        return Behind(slow, least, asking, mine[name], group)
    return None


def _ranks(name: str) -> tuple[int, ...]:
    return tuple(int(rank) for rank in name.rstrip("+").split(","))


def _join(ranks: tuple[int, ...]) -> str:
    return ", ".join(map(str, ranks))
