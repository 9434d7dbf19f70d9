"""The environment variables of torchrun, which `fabric.launch` and blixt's cloud set as well."""

import os

from blixt.fabric.cluster.base import World
from blixt.fabric.errors import ConfigError

_NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def detect_torchrun() -> World | None:
    """Read RANK, WORLD_SIZE and the rest; None when they describe a single process or are absent."""
    if _number("WORLD_SIZE", 1) <= 1:
        return None
    missing = [name for name in _NEEDED if name not in os.environ]
    if missing:
        reason = f"the environment says so but lacks {', '.join(missing)}"
        raise ConfigError("WORLD_SIZE", os.environ["WORLD_SIZE"], reason, "Start with torchrun, or unset it")
    world_size, rank = _number("WORLD_SIZE", 1), _number("RANK", 0)
    if not 0 <= rank < world_size:
        reason = f"ranks go from 0 to {world_size - 1}, because WORLD_SIZE={world_size}"
        raise ConfigError("RANK", rank, reason, "Correct the environment of this process")
    local_world_size = _number("LOCAL_WORLD_SIZE", world_size)
    return World(
        rank=rank,
        local_rank=_number("LOCAL_RANK", 0),
        world_size=world_size,
        local_world_size=local_world_size,
        node_rank=_number("GROUP_RANK", _number("NODE_RANK", rank // local_world_size)),
        started_by="the environment (torchrun's variables)",
    )


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise ConfigError(name, text, "this environment variable must be a number", "Correct it") from None
