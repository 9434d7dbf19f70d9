"""This process's place among the ranks: arguments first, torchrun's environment as the default."""

import os


def world(rank: int | None = None, world_size: int | None = None) -> tuple[int, int]:
    """Return (rank, world size).

    Raises:
        ValueError: when they do not fit each other, or a variable is no number.

    Example:
        >>> world(rank=1, world_size=4)
        (1, 4)
    """
    size = _integer("WORLD_SIZE", 1) if world_size is None else world_size
    place = _integer("RANK", 0) if rank is None else rank
    if not 0 <= place < size:
        raise ValueError(f"rank must be in 0..{size - 1}, got {place}; check RANK and WORLD_SIZE")
    return place, size


def _integer(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    if not value:
        return default
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"the environment variable {name} must be a whole number, got {value!r}") from None
