"""Which accelerator and devices a server is to use, as LitServe words it."""

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

from blixt.serve.devices import cuda_device_count, resolve_devices
from blixt.serve.errors import ServeError

NAMES = ("auto", "cpu", "mps", "cuda", "gpu")


class Connector:
    """The accelerator and its devices, checked but not looked for.

    Args:
        accelerator: "auto", "cpu", "cuda", "mps", or "gpu", which is whatever GPU there is; None is "auto".
        devices: "auto", a count, or a list of indexes.

    Raises:
        ValueError: There is no such accelerator, or `devices` does not go with it.
    """

    def __init__(self, accelerator: str | None = "auto", devices: int | str | Sequence[int] = "auto") -> None:
        name = self._sanitize_accelerator(accelerator)
        if name in ("auto", "gpu"):
            name = self._choose_gpu_accelerator_backend() or "cpu"
        self.accelerator = name
        self.devices = self._count(name) if devices == "auto" else devices
        if name != "cpu":
            _check_indexes(self.devices)

    @staticmethod
    def _sanitize_accelerator(accelerator: str | None) -> str:
        name = "auto" if accelerator is None else accelerator.lower()
        if name not in NAMES:
            raise ValueError(
                f"accelerator must be one of 'auto', 'cpu', 'mps', 'cuda', or 'gpu'. Found: {accelerator!r}"
            )
        return name

    @staticmethod
    def _choose_gpu_accelerator_backend() -> str | None:
        """The GPU that is there, if any; that of a Mac only for programs that use torch."""
        if cuda_device_count() or check_cuda_with_nvidia_smi():
            return "cuda"
        torch = sys.modules.get("torch")
        return "mps" if torch is not None and torch.backends.mps.is_available() else None

    @staticmethod
    def _count(accelerator: str) -> int:
        return (cuda_device_count() or check_cuda_with_nvidia_smi()) if accelerator == "cuda" else 1

    def is_here(self) -> bool:
        """Whether this machine has them."""
        try:
            resolve_devices(self.accelerator, self.devices)
        except ServeError:
            return False
        return True

    def names(self) -> list[str]:
        """The devices' names, as torch knows them; one "cpu" for each that is asked for."""
        if self.accelerator == "cpu":
            try:
                return resolve_devices("cpu", self.devices)
            except ServeError as error:
                raise ValueError(str(error)) from error
        indexes = range(self.devices) if isinstance(self.devices, int) else self.devices
        return [f"{self.accelerator}:{index}" for index in indexes]


_Connector = Connector


@lru_cache(maxsize=1)
def check_cuda_with_nvidia_smi() -> int:
    """How many GPUs `nvidia-smi` lists; 0 without it."""
    try:
        said = subprocess.check_output(["nvidia-smi", "-L"], timeout=60).decode()
    except (OSError, subprocess.SubprocessError):
        return 0
    present = sum(line.startswith("GPU ") for line in said.splitlines())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return present if visible is None else min(present, len([name for name in visible.split(",") if name]))


def _check_indexes(devices: Any) -> None:
    indexes = cast(Sequence[Any], devices if isinstance(devices, list | tuple | range) else [devices])
    if not all(isinstance(index, int) for index in indexes):
        raise ValueError(
            "devices must be an integer or a list of integers when using 'cuda' or 'mps', "
            f"instead got {devices!r}"
        )
