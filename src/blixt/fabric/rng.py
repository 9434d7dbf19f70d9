"""Random number generators: seed them together, take their state, put it back."""

import os
import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from blixt.fabric.errors import ConfigError

_SEED_VARIABLE = "BLIXT_GLOBAL_SEED"
_MAX_SEED = 2**32 - 1


def seed_everything(seed: int | None = None, *, verbose: bool = False) -> int:
    """Seed Python's, numpy's and torch's generators, on every device.

    Args:
        seed: Between 0 and 2**32 - 1. None takes it from the environment variable BLIXT_GLOBAL_SEED, else 0.
        verbose: Print the seed.

    Returns:
        The seed. Processes that this one starts see it in BLIXT_GLOBAL_SEED.

    Example:
        >>> seed_everything(7)
        7
    """
    if seed is None:
        seed = int(os.environ.get(_SEED_VARIABLE, "0"))
    if not 0 <= seed <= _MAX_SEED:
        raise ConfigError("seed_everything(seed)", seed, "numpy takes 32-bit seeds", f"Use 0..{_MAX_SEED}")
    os.environ[_SEED_VARIABLE] = str(seed)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType] - torch leaves it untyped
    if verbose:
        print(f"seed set to {seed}")
    return seed


def global_seed() -> int:
    """The seed that `seed_everything` set in this process or the one that started it, else 0."""
    return int(os.environ.get(_SEED_VARIABLE, "0"))


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
def isolate_rng(device: torch.device | None = None) -> Generator[None]:
    """Whatever is drawn inside leaves the generators as they were."""
    state = capture_rng(device)
    try:
        yield
    finally:
        restore_rng(state, device)
