"""All "which argument wins" rules, decided once into a frozen description."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from blixt.fabric.accelerators import Accelerator, Devices, resolve_accelerator
from blixt.fabric.accelerators.base import is_all
from blixt.fabric.checkpoint.plugin import CheckpointIO
from blixt.fabric.cluster import ClusterEnvironment, LocalEnvironment, World, detect_environment
from blixt.fabric.errors import ConfigError, WrongTypeError
from blixt.fabric.precision import Precision, PrecisionName, compose, resolve_precision
from blixt.fabric.strategies import LayerSync, SingleDeviceStrategy, Strategy, resolve_strategy
from blixt.fabric.strategies.wishes import Wishes

Plugin = Precision | ClusterEnvironment | CheckpointIO | LayerSync
"""What `plugins=` takes, one or a list."""


@dataclass(frozen=True)
class Plan:
    """What a Fabric will be once launched.

    Attributes:
        accelerator: Family of devices.
        device_indices: One per process on this machine.
        strategy: How parameters and gradients are shared.
        precision: Number formats.
        environment: Who started the processes, or will.
        world: This process's place; None when `launch` still has to make the processes.
        world_size: Number of processes that will train together.
        num_nodes: Number of machines.
    """

    accelerator: Accelerator
    device_indices: list[int]
    strategy: Strategy
    precision: Precision
    environment: ClusterEnvironment
    world: World | None
    world_size: int
    num_nodes: int

    def device_of(self, world: World) -> torch.device:
        """The device of the process at this place."""
        if isinstance(self.strategy, SingleDeviceStrategy) and self.strategy.device is not None:
            return self.strategy.device
        return self.accelerator.device(self.device_indices[world.local_rank])


@dataclass
class Plugins:
    """What was in `plugins=`, by kind."""

    precisions: list[Precision] = field(default_factory=list[Precision])
    environment: ClusterEnvironment | None = None
    checkpoint_io: CheckpointIO | None = None
    layer_sync: LayerSync | None = None


def resolve_plan(
    accelerator: str | Accelerator = "auto",
    strategy: str | Strategy = "auto",
    devices: Devices = "auto",
    num_nodes: int | str = 1,
    precision: PrecisionName | Precision | None = None,
    plugins: Plugin | Iterable[Plugin] | None = None,
) -> Plan:
    """Check the arguments of a Fabric against each other, this machine and the environment.

    The variables LT_ACCELERATOR, LT_STRATEGY, LT_DEVICES, LT_NUM_NODES and LT_PRECISION, which
    `blixt fabric run` sets, stand in for arguments that were left out.

    Raises:
        ConfigError: Naming the argument, its value, the reason and the fix.
    """
    accelerator = _or_variable("accelerator", accelerator, "auto")
    strategy = _or_variable("strategy", strategy, "auto")
    devices = _or_variable("devices", devices, "auto")
    num_nodes = _positive("num_nodes", _or_variable("num_nodes", num_nodes, 1))
    precision = _or_variable("precision", precision, None)
    sorted_plugins = sort_plugins(plugins)
    policy = _policy(precision, sorted_plugins.precisions, strategy)
    wishes = strategy.wishes if isinstance(strategy, Strategy) else Wishes()
    family = resolve_accelerator(wishes.accelerator_for(accelerator))
    devices = wishes.devices_for(devices)
    environment = sorted_plugins.environment or wishes.environment
    environment = environment or detect_environment() or LocalEnvironment()
    world, indices, world_size = _placed(environment, family, devices, num_nodes)
    if world_size > 1 and not family.backend:
        raise ConfigError("devices", devices, f"{family.name} has a single device", "Use devices=1")
    chosen = resolve_strategy(strategy, world_size)
    chosen.configure(
        precision=policy, checkpoint_io=sorted_plugins.checkpoint_io, layer_sync=sorted_plugins.layer_sync
    )
    return Plan(family, indices, chosen, policy, environment, world, world_size, num_nodes)


def sort_plugins(plugins: Plugin | Iterable[Plugin] | None) -> Plugins:
    """`plugins` by kind.

    Raises:
        ConfigError: For two of a kind (but precisions compose), or something that is no plugin.
    """
    found = Plugins()
    several = isinstance(plugins, (list, tuple, set))
    for plugin in cast("Iterable[Any]", plugins if several else [] if plugins is None else [plugins]):
        if isinstance(plugin, Precision):
            found.precisions.append(plugin)
        elif isinstance(plugin, ClusterEnvironment):
            found.environment = _only_one("ClusterEnvironment", found.environment, plugin)
        elif isinstance(plugin, CheckpointIO):
            found.checkpoint_io = _only_one("CheckpointIO", found.checkpoint_io, plugin)
        elif isinstance(plugin, LayerSync):
            found.layer_sync = _only_one("LayerSync", found.layer_sync, plugin)
        else:
            kinds = "a Precision, a ClusterEnvironment, a CheckpointIO and a LayerSync are known"
            raise WrongTypeError("plugins", plugin, kinds, "Give one of them, or a list")
    return found


def launched_by_cli() -> bool:
    """Whether `blixt fabric run` (or Lightning's own command) started this process."""
    return os.environ.get("LT_CLI_USED", "0") == "1"


def _policy(precision: Any, plugins: list[Precision], strategy: Any) -> Precision:
    if precision is None and not plugins:
        own = strategy.precision if isinstance(strategy, Strategy) else None
        return own or Precision()
    return compose([*([] if precision is None else [resolve_precision(precision)]), *plugins])


def _only_one(kind: str, before: Any, plugin: Any) -> Any:
    if before is not None:
        raise ConfigError("plugins", [before, plugin], f"there can be only one {kind}", "Leave one out")
    return plugin


def _or_variable(name: str, given: Any, default: Any) -> Any:
    """What was given, else the variable of the command line, else the default."""
    variable = f"LT_{name.upper()}"
    text = os.environ.get(variable)
    if text is None:
        return given
    if given != default and str(given) != text and launched_by_cli():
        reason = f"the command line says {text!r}"
        raise ConfigError(name, given, reason, "Say it in one place: leave the argument out of the script")
    return text


def _positive(name: str, value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1 or isinstance(value, (bool, float)):
        raise ConfigError(name, value, "it counts machines", "Use 1 or more")
    return number


def _placed(
    environment: ClusterEnvironment, family: Accelerator, devices: Devices, num_nodes: int
) -> tuple[World | None, list[int], int]:
    """This process's place (None while processes are to be made), this machine's devices, all processes."""
    given = None if is_all(devices) else family.parse_devices(devices)
    world = environment.world(len(given or [0]), num_nodes)
    if world is not None and world.world_size > 1:
        indices = _indices_in(world, devices, given, family, num_nodes)
        nodes = world.world_size // world.local_world_size if num_nodes == 1 else num_nodes
        environment.validate_settings(len(indices), nodes)
        return world, indices, world.world_size
    indices = given or family.parse_devices(devices)
    world_size = len(indices) * num_nodes
    return (World() if world_size == 1 else None), indices, world_size


def _indices_in(
    world: World, devices: Devices, given: list[int] | None, family: Accelerator, num_nodes: int
) -> list[int]:
    if given is None:
        here = world.local_world_size if family.name == "cpu" else family.auto_device_count()
        given = list(range(here))
    elif len(given) != world.local_world_size:
        reason = f"{world.started_by} started {world.local_world_size} process(es) on this machine"
        raise ConfigError("devices", devices, reason, "Make the two equal, or use devices='auto'")
    nodes = world.world_size // world.local_world_size
    if num_nodes not in (1, nodes):
        reason = f"{world.started_by} started processes on {nodes} machine(s)"
        raise ConfigError("num_nodes", num_nodes, reason, "Make the two equal")
    if world.local_rank >= len(given):
        reason = f"local rank {world.local_rank} has no device: {len(given)} {family.name} device(s) here"
        raise ConfigError("devices", devices, reason, "Start fewer processes, or use accelerator='cpu'")
    return given
