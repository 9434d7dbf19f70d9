"""Which devices do the workers get? Answered without importing torch.

CUDA devices are counted by their device files (`/dev/nvidia0`, `/dev/nvidia1`, ...), which the driver creates
on every Linux machine and container that may use the GPU, and narrowed by `CUDA_VISIBLE_DEVICES`. Apple's
GPU (`mps`) is there on every arm64 Mac.
"""

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from blixt.serve.errors import ConfigError

ACCELERATORS = ("auto", "cpu", "cuda", "mps")


def cuda_device_count(dev: Path = Path("/dev"), visible: str | None = None) -> int:
    """How many CUDA devices this process may use."""
    names = [p.name for p in dev.glob("nvidia*")] if dev.is_dir() else []
    count = sum(re.fullmatch(r"nvidia\d+", name) is not None for name in names)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
    if visible is None:
        return count
    listed = [item.strip() for item in visible.split(",")]
    usable = listed[: listed.index("-1")] if "-1" in listed else listed
    return min(count, len([item for item in usable if item]))


def resolve_devices(accelerator: str, devices: int | str | Sequence[int]) -> list[str]:
    """The device names, one per group of workers.

    Args:
        accelerator: "auto", "cpu", "cuda" or "mps".
        devices: "auto" (every GPU, or one CPU), a count, or a list of indexes.

    Raises:
        ConfigError: The accelerator is unknown or not on this machine, or `devices` fits it not.
    """
    if accelerator not in ACCELERATORS:
        raise ConfigError(f"accelerator={accelerator!r} is unknown; use one of {', '.join(ACCELERATORS)}.")
    cuda = cuda_device_count() if accelerator in ("auto", "cuda") else 0
    mac = platform.system() == "Darwin" and platform.machine() == "arm64"
    if accelerator == "auto":
        accelerator = "cuda" if cuda else "mps" if mac else "cpu"
    if accelerator == "cuda" and not cuda:
        raise ConfigError("accelerator='cuda', but this machine shows no CUDA device; use 'cpu' or 'auto'.")
    if accelerator == "mps" and not mac:
        raise ConfigError("accelerator='mps' needs a Mac with Apple silicon; use 'cpu' or 'auto'.")
    indexes = _indexes(devices, cuda if accelerator == "cuda" else 1)
    if accelerator != "cuda":
        return [accelerator] * len(indexes)
    wrong = [index for index in indexes if index >= cuda]
    if wrong:
        raise ConfigError(f"devices={devices!r} asks for cuda:{wrong[0]}, but this machine has {cuda}.")
    return [f"cuda:{index}" for index in indexes]


def _indexes(devices: int | str | Sequence[int], present: int) -> list[int]:
    if devices == "auto":
        return list(range(present))
    if isinstance(devices, int) and not isinstance(devices, bool) and devices > 0:
        return list(range(devices))
    if not isinstance(devices, str | int) and devices and min(devices) >= 0:
        return list(devices)
    raise ConfigError(f"devices={devices!r} is not 'auto', a count above 0 or a list of indexes.")
