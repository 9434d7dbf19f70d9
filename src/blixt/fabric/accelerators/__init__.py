"""Families of devices: what there is, which of it the user asked for. One file a family."""

from blixt.fabric.accelerators.base import Accelerator, Devices
from blixt.fabric.accelerators.cpu import CPUAccelerator
from blixt.fabric.accelerators.cuda import CUDAAccelerator, find_usable_cuda_devices
from blixt.fabric.accelerators.mps import MPSAccelerator
from blixt.fabric.accelerators.registry import ACCELERATORS, AcceleratorRegistry, resolve_accelerator

__all__ = [
    "ACCELERATORS",
    "Accelerator",
    "AcceleratorRegistry",
    "CPUAccelerator",
    "CUDAAccelerator",
    "Devices",
    "MPSAccelerator",
    "find_usable_cuda_devices",
    "resolve_accelerator",
]
