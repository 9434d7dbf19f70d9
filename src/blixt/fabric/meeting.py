"""A part of the store that belongs to this attempt alone.

torchrun's agent starts ranks again with the store of the attempt before, in which that attempt's addresses
and promises still stand. A number of restarts would not tell attempts apart, because a machine that joined
later counts from zero. So rank 0 thinks of a name, and tells it to ranks that prove to be new.
"""

import os
import time
import uuid
from datetime import timedelta
from typing import Any, cast

from torch.distributed.distributed_c10d import PrefixStore, Store

from blixt.fabric.errors import LaunchError

_POLL_S = 0.02


def own_part(store: Store, rank: int, world_size: int, timeout_s: float) -> Store:
    """The store itself, or under torchrun the part of it that the ranks of this attempt agree on.

    Args:
        store: Where the ranks meet.
        rank: Of this process.
        world_size: Number of processes; all of them call this.
        timeout_s: How long to wait for the others.

    Raises:
        LaunchError: When some do not come, naming them.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or world_size == 1:
        return store
    keys = cast("Any", PrefixStore("blixt/attempts", store))
    name = _name_it(keys, world_size, timeout_s) if rank == 0 else _ask_for_it(keys, rank, timeout_s)
    return PrefixStore(f"blixt/attempt/{name}", store)


def _name_it(keys: Any, world_size: int, timeout_s: float) -> str:
    """Answer every rank that asks, until all have said that they heard this very name."""
    name = uuid.uuid4().hex
    waiting = set(range(1, world_size))
    answered: dict[int, bytes] = {}
    deadline = time.monotonic() + timeout_s
    while waiting:
        for rank in sorted(waiting):
            if keys.check([f"asks/{rank}"]) and (question := keys.get(f"asks/{rank}")) != answered.get(rank):
                answered[rank] = question
                keys.set(f"answer/{question.decode()}", name)
            if keys.check([f"heard/{name}/{rank}"]):
                waiting.discard(rank)
        if waiting and time.monotonic() > deadline:
            missing = ", ".join(map(str, sorted(waiting)))
            raise LaunchError(f"Rank 0 waited {timeout_s:g} s for rank {missing} to come.")
        if waiting:
            time.sleep(_POLL_S)
    return name


def _ask_for_it(keys: Any, rank: int, timeout_s: float) -> str:
    question = uuid.uuid4().hex
    keys.set(f"asks/{rank}", question)
    answer = f"answer/{question}"
    keys.wait([answer], timedelta(seconds=timeout_s))
    name = keys.get(answer).decode()
    keys.set(f"heard/{name}/{rank}", "")
    return name
