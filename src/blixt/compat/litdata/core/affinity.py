"""LitData's NUMA plans: which processors, and which memory, a rank and its workers use."""

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

_NODES = Path("/sys/devices/system/node")
_PCI = Path("/sys/bus/pci/devices")
_BIND = 2
_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}
"""The number of the system call set_mempolicy, which no C library wraps."""


@dataclass(frozen=True)
class NumaAffinity:
    """The processors of a node, and whether memory is to come from it; travels to workers.

    Call `bind` in a rank before its workers start, or give the plan as `worker_init_fn`.
    """

    numa_node: int
    cpus: tuple[int, ...]
    bind_memory: bool = True

    def bind(self) -> None:
        """Bind this thread and what it starts from now on.

        Raises:
            ValueError: when a processor is not one of the node's.
            OSError: when the kernel refuses.
        """
        if not self.cpus or not set(self.cpus) <= _processors_of(self.numa_node):
            raise ValueError("Every selected CPU must belong to the selected NUMA node.")
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.cpus)
        if self.bind_memory:
            try:
                _bind_memory(self.numa_node)
            except OSError:
                os.sched_setaffinity(0, before)
                raise

    def __call__(self, worker_id: int) -> None:
        """Bind a worker of a loader."""
        del worker_id
        self.bind()


def get_numa_affinity(numa_node: int, *, bind_memory: bool = True) -> NumaAffinity:
    """Plan for a node: its processors that this thread may use.

    Raises:
        RuntimeError: when there is none, or the machine does not say.
    """
    chosen = _processors_of(numa_node) & os.sched_getaffinity(0)
    if not chosen:
        raise RuntimeError(f"NUMA node {numa_node} has no CPUs in the current affinity mask.")
    return NumaAffinity(numa_node, tuple(sorted(chosen)), bind_memory)


def get_gpu_affinity(device: Any = None, *, bind_memory: bool = True) -> NumaAffinity:
    """Plan for the node of a CUDA device; ask in the rank, not in its workers.

    Raises:
        RuntimeError: in a worker, or when the device's node is not known.
    """
    torch = import_module("torch")
    if torch.utils.data.get_worker_info() is not None:
        raise RuntimeError("Resolve GPU affinity in the rank process and pass the resulting plan to workers.")
    about = torch.cuda.get_device_properties(device)
    pci = f"{about.pci_domain_id:04x}:{about.pci_bus_id:02x}:{about.pci_device_id:02x}.0"
    try:
        node = int((_PCI / pci / "numa_node").read_text())
    except OSError:
        node = -1
    if node < 0:
        raise RuntimeError(f"GPU PCI device {pci} has no NUMA node exposed by the kernel.")
    return get_numa_affinity(node, bind_memory=bind_memory)


def _processors_of(node: int) -> set[int]:
    if sys.platform != "linux":
        raise RuntimeError("NUMA affinity requires Linux with sched_setaffinity support.")
    try:
        listed = (_NODES / f"node{node}" / "cpulist").read_text()
    except OSError:
        raise RuntimeError(f"CPU topology is unavailable for NUMA node {node}.") from None
    return parse_list(listed)


def parse_list(listed: str) -> set[int]:
    """Return the numbers of the kernel's way to write a set of them.

    Example:
        >>> sorted(parse_list("0-2,8"))
        [0, 1, 2, 8]
    """
    numbers: set[int] = set()
    for part in filter(None, listed.strip().split(",")):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def _bind_memory(node: int) -> None:
    call = _SET_MEMPOLICY.get(platform.machine())
    if call is None:
        raise OSError(f"binding memory is not known for {platform.machine()}; pass bind_memory=False")
    bits = 8 * ctypes.sizeof(ctypes.c_ulong)
    mask = (ctypes.c_ulong * (max(1024, node + 1) // bits + 1))()
    mask[node // bits] |= 1 << node % bits
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(call, _BIND, mask, ctypes.c_ulong(bits * len(mask))):
        problem = ctypes.get_errno()
        raise OSError(problem, f"cannot bind memory to NUMA node {node}: {os.strerror(problem)}")
