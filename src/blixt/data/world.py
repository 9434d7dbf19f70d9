"""This process's place among the ranks: arguments first, then torch.distributed, then the environment."""

import os
import sys


def world(rank: int | None = None, world_size: int | None = None) -> tuple[int, int]:
    """Return (rank, world size).

    What is not given comes from `torch.distributed` where the program has begun it, else from `RANK` and
    `WORLD_SIZE`, else it is one rank. `rank=0, world_size=1` reads everything on every rank.

    Raises:
        ValueError: when they do not fit each other, or a variable is no number.

    Example:
        >>> world(rank=1, world_size=4)
        (1, 4)
    """
    if rank is None or world_size is None:
        begun = _torch_distributed()
        here = begun or (_integer("RANK", 0), _integer("WORLD_SIZE", 1))
        if begun is None and not os.environ.get("RANK"):  # a launcher's parent may have set the size alone
            here = (0, 1)
        rank = here[0] if rank is None else rank
        world_size = here[1] if world_size is None else world_size
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in 0..{world_size - 1}, got {rank}; check RANK and WORLD_SIZE")
    return rank, world_size


def _torch_distributed() -> tuple[int, int] | None:
    """Ask torch, but only where the program has imported it."""
    module = sys.modules.get("torch.distributed")
    if module is None or not module.is_available() or not module.is_initialized():
        return None
    return module.get_rank(), module.get_world_size()


def _integer(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    if not value:
        return default
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"the environment variable {name} must be a whole number, got {value!r}") from None
