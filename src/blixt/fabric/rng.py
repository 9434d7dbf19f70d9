"""Random number generators: seed them together, take their state, put it back."""

import os
import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from blixt.fabric.errors import ConfigError
from blixt.fabric.rank_zero import current_rank, rank_zero_warn

_SEED_VARIABLE = "BLIXT_GLOBAL_SEED"
_LIGHTNING_SEED_VARIABLE = "PL_GLOBAL_SEED"
_WORKERS_VARIABLE = "PL_SEED_WORKERS"
_MAX_SEED = 2**32 - 1


def seed_everything(seed: int | None = None, workers: bool = False, verbose: bool = False) -> int:
    """Seed Python's, numpy's and torch's generators, on every device.

    Args:
        seed: Between 0 and 2**32 - 1. None takes it from the environment variable PL_GLOBAL_SEED, else
            BLIXT_GLOBAL_SEED, else 0 with a warning when `verbose`.
        workers: Remembered in PL_SEED_WORKERS for programs that look there. blixt's loaders seed their
            workers by epoch and sample in any case.
        verbose: Print the seed, with the rank when there are several.

    Returns:
        The seed. Processes that this one starts see it in both variables.

    Raises:
        ConfigError: When the seed, or the variable it came from, is not a 32-bit number.

    Example:
        >>> seed_everything(7)
        7
    """
    if seed is None:
        seed = _seed_of_environment(verbose)
    seed = int(seed)
    if not 0 <= seed <= _MAX_SEED:
        raise ConfigError("seed_everything(seed)", seed, "numpy takes 32-bit seeds", f"Use 0..{_MAX_SEED}")
    os.environ[_SEED_VARIABLE] = os.environ[_LIGHTNING_SEED_VARIABLE] = str(seed)
    os.environ[_WORKERS_VARIABLE] = str(int(workers))
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType] - torch leaves it untyped
    if verbose:
        rank = f"rank {current_rank()}: " if int(os.environ.get("WORLD_SIZE", "1") or 1) > 1 else ""
        print(f"{rank}seed set to {seed}")
    return seed


def reset_seed() -> None:
    """Seed again with what `seed_everything` was last given here or in a parent; else do nothing."""
    if _stored_seed() is not None:
        seed_everything(workers=os.environ.get(_WORKERS_VARIABLE, "0") == "1")


def global_seed() -> int:
    """The seed that `seed_everything` set in this process or the one that started it, else 0."""
    return int((_stored_seed() or ("", "0"))[1])


def _stored_seed() -> tuple[str, str] | None:
    """Name and text of the variable that holds a seed."""
    for name in (_LIGHTNING_SEED_VARIABLE, _SEED_VARIABLE):
        if os.environ.get(name):
            return name, os.environ[name]
    return None


def _seed_of_environment(verbose: bool) -> int:
    stored = _stored_seed()
    if stored is None:
        if verbose:
            rank_zero_warn("No seed was given and none is in the environment: 0 is used.")
        return 0
    name, text = stored
    try:
        return int(text)
    except ValueError:
        raise ConfigError(name, text, "a seed is a whole number", "Correct the variable") from None


def seed_worker(worker_id: int, rank: int | None = None) -> None:
    """A `worker_init_fn` that gives every worker of every rank its own numbers in all three generators.

    Only for loaders that Fabric does not set up: those have their own, finer seeding.

    Args:
        worker_id: Index of the worker in its loader.
        rank: Of the process that owns the loader; by default this process's.
    """
    rank = current_rank() if rank is None else rank
    base = torch.initial_seed() - worker_id
    words = np.random.SeedSequence([base, worker_id, rank]).generate_state(8)
    random.seed(int.from_bytes(words[:4].tobytes(), "little"))
    np.random.seed(words[4:])
    torch.manual_seed(int(words[0]) << 32 | int(words[5]))  # pyright: ignore[reportUnknownMemberType]


def capture_rng(device: torch.device | None = None) -> dict[str, Any]:
    """The state of every generator this process draws from, as plain values a safe loader accepts.

    Args:
        device: The accelerator whose generator counts as well; None or the CPU add nothing.
    """
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [name, torch.as_tensor(np.array(keys, dtype=np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
    }
    if device is not None and device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if device is not None and device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_rng(state: dict[str, Any], device: torch.device | None = None) -> None:
    """Put back what `capture_rng` took."""
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and device is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    if "mps" in state and device is not None and device.type == "mps":
        torch.mps.set_rng_state(state["mps"])


@contextmanager
def isolate_rng(device: torch.device | bool | None = None) -> Generator[None]:
    """Whatever is drawn inside leaves the generators as they were.

    Args:
        device: The accelerator whose generator counts as well. True, for those who come from Lightning,
            means the current CUDA device if there is one; False or None only the CPU.
    """
    if isinstance(device, bool):
        current = torch.cuda.current_device() if device and torch.cuda.is_available() else None
        device = None if current is None else torch.device("cuda", current)
    state = capture_rng(device)
    try:
        yield
    finally:
        restore_rng(state, device)
