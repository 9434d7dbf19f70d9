"""NVIDIA's GPUs, and AMD's through torch's ROCm builds."""

from typing import Any

import torch

from blixt.fabric.accelerators.base import Accelerator, Devices, device_indices, is_all
from blixt.fabric.errors import ConfigError


class CUDAAccelerator(Accelerator):
    """Whatever `torch.cuda` sees."""

    name = "cuda"
    backend = "nccl"
    device_type = "cuda"

    def is_available(self) -> bool:
        """Whether torch was built for such GPUs and finds one."""
        return torch.cuda.is_available()

    def auto_device_count(self) -> int:
        """All visible ones."""
        return torch.cuda.device_count()

    def parse_devices(self, devices: Devices) -> list[int]:
        """Indices among the visible GPUs.

        Under a launcher that shows every process just one GPU, indices count processes.
        """
        if not is_all(devices) and self.auto_device_count() == 1:
            indices = device_indices(devices)
            if len(indices) > 1 and torch.distributed.is_torchelastic_launched():
                return indices
        return super().parse_devices(devices)

    def setup_device(self, device: torch.device) -> None:
        """Make it torch's current GPU, so that `.cuda()` and NCCL use it."""
        torch.cuda.set_device(device)

    def teardown(self) -> None:
        """Return cached memory to the driver."""
        torch.cuda.empty_cache()

    def get_device_stats(self, device: torch.device) -> dict[str, Any]:
        """torch's counters of the memory allocator, in bytes and numbers of blocks."""
        return dict(torch.cuda.memory_stats(device))


def find_usable_cuda_devices(num_devices: int = -1) -> list[int]:
    """Indices of GPUs that this process can allocate on.

    GPUs that another process holds in exclusive mode are seen but cannot be used.

    Args:
        num_devices: How many are needed; -1 for all that can be used.

    Raises:
        ConfigError: When there are fewer.
    """
    if num_devices == 0:
        return []
    visible = torch.cuda.device_count()
    if visible == 0 or num_devices > visible:
        reason = f"this machine has {visible} visible CUDA device(s)"
        fix = "Ask for fewer, or check CUDA_VISIBLE_DEVICES"
        raise ConfigError("find_usable_cuda_devices(num_devices)", num_devices, reason, fix)
    usable: list[int] = []
    for index in range(visible):
        if _can_allocate(index):
            usable.append(index)
        if len(usable) == num_devices:
            break
    if num_devices != -1 and len(usable) < num_devices:
        reason = f"only the device(s) {usable} are free, the others are held by other processes"
        raise ConfigError(
            "find_usable_cuda_devices(num_devices)", num_devices, reason, "Ask for fewer, or wait"
        )
    return usable


def _can_allocate(index: int) -> bool:
    try:
        torch.zeros(1, device=torch.device("cuda", index))
    except RuntimeError:
        return False
    return True
