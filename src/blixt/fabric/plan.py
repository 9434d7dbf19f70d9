"""All "which argument wins" rules, decided once into a frozen description."""

from dataclasses import dataclass

import torch

from blixt.fabric.accelerators import Accelerator, Devices, parse_devices, resolve_accelerator
from blixt.fabric.cluster import World, detect_world
from blixt.fabric.errors import ConfigError, nearest
from blixt.fabric.precision import Precision, resolve_precision

_STRATEGIES = ("auto", "single_device", "ddp", "ddp_find_unused_parameters_true")


@dataclass(frozen=True)
class Plan:
    """What a Fabric will be once launched.

    Attributes:
        accelerator: Family of devices.
        device_indices: One per process on this machine.
        strategy: "single_device", "ddp" or "ddp_find_unused_parameters_true".
        precision: Number formats.
        world: This process's place; None when `launch` still has to make the processes.
        world_size: Number of processes that will train together.
        num_nodes: Number of machines.
    """

    accelerator: Accelerator
    device_indices: list[int]
    strategy: str
    precision: Precision
    world: World | None
    world_size: int
    num_nodes: int

    def device_of(self, world: World) -> torch.device:
        """The device of the process at this place."""
        return self.accelerator.device(self.device_indices[world.local_rank])


def resolve_plan(
    accelerator: str, strategy: str, devices: Devices, num_nodes: int, precision: str | int
) -> Plan:
    """Check the arguments of a Fabric against each other, this machine and the environment.

    Raises:
        ConfigError: Naming the argument, its value, the reason and the fix.
    """
    if strategy not in _STRATEGIES:
        raise ConfigError(
            "strategy", strategy, "there is no such strategy", nearest(strategy, _STRATEGIES).rstrip("?")
        )
    family = resolve_accelerator(accelerator)
    world = detect_world()
    if world is None:
        indices = parse_devices(devices, family)
        world_size = _own_world_size(indices, num_nodes)
        world = World() if world_size == 1 else None
    else:
        indices = _indices_in(world, devices, family, num_nodes)
        world_size = world.world_size
    if world_size > 1 and not family.backend:
        raise ConfigError("devices", devices, f"{family.name} has a single device", "Use devices=1")
    chosen = _strategy_for(strategy, world_size)
    return Plan(family, indices, chosen, resolve_precision(precision), world, world_size, num_nodes)


def _own_world_size(indices: list[int], num_nodes: int) -> int:
    if num_nodes != 1:
        raise ConfigError(
            "num_nodes",
            num_nodes,
            "one process cannot start processes on other machines",
            "Start the script on every machine with torchrun, or as a blixt Job with machines=N",
        )
    return len(indices)


def _indices_in(world: World, devices: Devices, family: Accelerator, num_nodes: int) -> list[int]:
    if devices == "auto":
        indices = list(range(world.local_world_size if family.name == "cpu" else family.count()))
    else:
        indices = parse_devices(devices, family)
        if len(indices) != world.local_world_size:
            reason = f"{world.started_by} started {world.local_world_size} process(es) on this machine"
            raise ConfigError("devices", devices, reason, "Make the two equal, or use devices='auto'")
    nodes = world.world_size // world.local_world_size
    if num_nodes not in (1, nodes):
        reason = f"{world.started_by} started processes on {nodes} machine(s)"
        raise ConfigError("num_nodes", num_nodes, reason, "Make the two equal")
    if world.local_rank >= len(indices):
        reason = f"local rank {world.local_rank} has no device: {len(indices)} {family.name} device(s) here"
        raise ConfigError("devices", devices, reason, "Start fewer processes, or use accelerator='cpu'")
    return indices


def _strategy_for(strategy: str, world_size: int) -> str:
    if world_size == 1:
        return "single_device"
    if strategy == "single_device":
        reason = f"{world_size} processes cannot share a single device"
        raise ConfigError("strategy", strategy, reason, "Use strategy='ddp', or devices=1")
    return "ddp" if strategy == "auto" else strategy
