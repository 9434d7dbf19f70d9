"""One object with few verbs that lets a PyTorch loop run on any device, precision and number of processes."""

import os
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Never, TypeVar, cast

import torch
from torch import nn
from torch.optim import Optimizer

from blixt.fabric import collectives
from blixt.fabric.accelerators import Accelerator, Devices
from blixt.fabric.checkpoint import load_file, restore_state, save_file, state_of
from blixt.fabric.cluster import World
from blixt.fabric.collectives import ReduceOp
from blixt.fabric.data import ResumableLoader, map_style
from blixt.fabric.errors import ConfigError, LaunchError, reject_unknown
from blixt.fabric.launch import die_with_launcher, launch_function, launch_script, share_cores
from blixt.fabric.loggers.base import Logger
from blixt.fabric.plan import Plan, resolve_plan
from blixt.fabric.precision import Precision
from blixt.fabric.rng import seed_everything
from blixt.fabric.samplers import shard_loader
from blixt.fabric.strategies import Strategy
from blixt.fabric.tree import to_device
from blixt.fabric.wrappers import FabricModule, scaled_optimizer

T = TypeVar("T")
_ARGUMENTS = ("accelerator", "strategy", "devices", "num_nodes", "precision", "plugins", "callbacks", "loggers")


class Fabric:
    """Everything about devices and processes; knows nothing of epochs.

    Args:
        accelerator: "auto" (the fastest there is), "cpu", "cuda", "gpu" or "mps".
        strategy: "auto", "single_device", "ddp" or "ddp_find_unused_parameters_true".
        devices: How many processes on this machine ("auto", a number, -1 for all), or which devices.
        num_nodes: How many machines; more than one needs torchrun or a blixt Job to start the processes.
        precision: "32", "bf16-mixed" or "16-mixed".
        callbacks: Objects whose methods `fabric.call(name)` calls.
        loggers: Where `fabric.log` sends numbers.

    Raises:
        ConfigError: When the arguments do not fit each other, this machine or the environment.

    Example:
        >>> fabric = Fabric(accelerator="cpu")
        >>> fabric.launch()
        >>> model = torch.nn.Linear(2, 1)
        >>> model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
        >>> fabric.backward(model(torch.ones(4, 2)).mean())
        >>> optimizer.step()
    """

    def __init__(
        self,
        *,
        accelerator: str | Accelerator = "auto",
        strategy: str | Strategy = "auto",
        devices: Devices = "auto",
        num_nodes: int = 1,
        precision: str | int | Precision | None = None,
        plugins: Any = None,
        callbacks: object | list[Any] | None = None,
        loggers: Logger | list[Logger] | None = None,
        **unknown: Never,
    ) -> None:
        reject_unknown("Fabric", unknown, _ARGUMENTS)
        self._plan: Plan = resolve_plan(accelerator, strategy, devices, num_nodes, precision, plugins)
        self._rebuild: dict[str, Any] = {
            "accelerator": accelerator,
            "strategy": strategy,
            "devices": devices,
            "num_nodes": num_nodes,
            "precision": precision,
            "plugins": plugins,
            "callbacks": callbacks,
            "loggers": loggers,
        }
        self.callbacks: list[Any] = _as_list(callbacks)
        self.loggers: list[Logger] = _as_list(loggers)
        self._strategy = self._plan.strategy
        self._world = self._plan.world or World(world_size=self._plan.world_size)
        self._device = self._plan.device_of(self._world)
        self._scaler = self._plan.precision.make_scaler(self._device)
        self._launched = False

    # --- what it is -------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self._device

    @property
    def global_rank(self) -> int:
        """The index of this process among all."""
        return self._world.rank

    @property
    def local_rank(self) -> int:
        """The index of this process on its machine."""
        return self._world.local_rank

    @property
    def node_rank(self) -> int:
        """The index of this machine."""
        return self._world.node_rank

    @property
    def world_size(self) -> int:
        """How many processes train together."""
        return self._world.world_size

    @property
    def num_devices(self) -> int:
        """How many processes train together on this machine, each on its device."""
        return self.world_size if self._plan.world is None else self._world.local_world_size

    @property
    def num_nodes(self) -> int:
        """How many machines."""
        return self.world_size // self.num_devices

    @property
    def device_ids(self) -> list[int]:
        """The indices of this machine's devices, one a process."""
        return self._plan.device_indices[: self.num_devices]

    @property
    def is_global_zero(self) -> bool:
        """Whether this process is the one that writes files and talks to people."""
        return self._world.rank == 0

    @property
    def strategy(self) -> Strategy:
        """How parameters and gradients are shared."""
        return self._strategy

    @property
    def accelerator(self) -> Accelerator:
        """The family of devices."""
        return self._plan.accelerator

    @property
    def precision(self) -> Precision:
        """Number formats."""
        return self._plan.precision

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """The gradient scaler, when the precision needs one."""
        return self._scaler

    @property
    def logger(self) -> Logger:
        """The first logger."""
        if not self.loggers:
            raise ConfigError("Fabric(loggers)", None, "there is no logger", "Give one")
        return self.loggers[0]

    # --- processes --------------------------------------------------------------------------------

    def launch(self, function: Callable[..., T] | None = None, *args: Any) -> T | None:
        """Be one of `world_size` processes.

        Without a function, and when nobody else (torchrun, a blixt Job) made the processes, the script runs
        again once per rank, from its beginning; this process waits for them and exits as they did.

        Args:
            function: Called as `function(fabric, *args)`, in fresh processes when more than one is asked
                for. It and `args` must be picklable then.
            args: For the function.

        Returns:
            What the function returned, on rank 0 if the processes were made here.
        """
        if self._plan.world is None:
            if function is None:
                launch_script(self._plan.world_size)
            return launch_function(self._plan.world_size, _run_in_rank, (self._rebuild, function, args))
        self._connect()
        return function(self, *args) if function is not None else None

    def _connect(self) -> None:
        if self._launched:
            return
        if self._plan.world is None:
            raise LaunchError(
                f"Fabric(devices=...) asks for {self._plan.world_size} processes and this is the only one. "
                "Call fabric.launch() before setup."
            )
        die_with_launcher()
        share_cores(self._world.local_world_size)
        self._plan.accelerator.setup_device(self._device)
        self._strategy.connect(self._world, self._plan.accelerator.backend)
        self._launched = True

    # --- set-up -----------------------------------------------------------------------------------

    def setup(self, module: nn.Module, *optimizers: Optimizer, move_to_device: bool = True) -> Any:
        """Prepare a module and its optimizers.

        Args:
            module: Any module.
            optimizers: Optimizers of its parameters.
            move_to_device: Move the parameters to this process's device.

        Returns:
            The wrapped module; with optimizers, the tuple (module, *optimizers).
        """
        wrapped = self.setup_module(module, move_to_device=move_to_device)
        return (wrapped, *(self._setup_optimizer(o) for o in optimizers)) if optimizers else wrapped

    def setup_module(self, module: nn.Module, *, move_to_device: bool = True) -> FabricModule:
        """Prepare a module on its own, see `setup`."""
        self._connect()
        if isinstance(module, FabricModule):
            raise ConfigError(
                "setup(module)", type(module.module).__name__, "it is set up already", "Do it once"
            )
        if move_to_device:
            module.to(self._device)
        forward_module = self._strategy.wrap(module, self._device)
        return FabricModule(module, forward_module, self._plan.precision, self._device)

    def setup_optimizers(self, *optimizers: Optimizer) -> Any:
        """Prepare optimizers on their own; one comes back as itself, several as a tuple.

        Only precisions with a gradient scaler change them; otherwise they come back untouched.
        """
        self._connect()
        ready = tuple(self._setup_optimizer(optimizer) for optimizer in optimizers)
        return ready[0] if len(ready) == 1 else ready

    def _setup_optimizer(self, optimizer: Optimizer) -> Optimizer:
        return optimizer if self._scaler is None else scaled_optimizer(optimizer, self._scaler)

    def setup_dataloaders(
        self, *loaders: Iterable[Any], use_distributed_sampler: bool = True, move_to_device: bool = True
    ) -> Any:
        """Prepare loaders: this rank's share of the samples, on this rank's device, with an exact position.

        Args:
            loaders: `DataLoader`s or any iterables of batches.
            use_distributed_sampler: Divide map-style `DataLoader`s among the processes. Iterable datasets
                and other loaders have to divide themselves.
            move_to_device: Move each batch to this process's device.

        Returns:
            One `ResumableLoader`, or a tuple of them.
        """
        self._connect()
        ready = tuple(
            self.make_loader(loader, shard=use_distributed_sampler, move_to_device=move_to_device)
            for loader in loaders
        )
        return ready[0] if len(ready) == 1 else ready

    def make_loader(
        self, loader: Iterable[Any], *, shard: bool = True, even: bool = True, move_to_device: bool = True
    ) -> ResumableLoader:
        """Prepare one loader; `even=False` leaves the ranks' shares unpadded, as evaluation wants it."""
        if isinstance(loader, ResumableLoader):
            return loader
        seed = int(torch.randint(2**62, ()).item())
        if self.world_size > 1:
            seed = self.broadcast(seed)
            if shard and (indexed := map_style(loader)) is not None:
                loader = shard_loader(indexed, self.global_rank, self.world_size, even=even)
        device = self._device if move_to_device else None
        return ResumableLoader(loader, device=device, rank=self.global_rank, seed=seed)

    def to_device(self, data: T) -> T:
        """Move a module, a tensor or nested tensors to this process's device."""
        return to_device(data, self._device)

    # --- a step -----------------------------------------------------------------------------------

    def backward(self, tensor: torch.Tensor, **kwargs: Any) -> None:
        """`tensor.backward()`, scaled when the precision needs it."""
        if self._scaler is not None:
            tensor = self._scaler.scale(tensor)
        tensor.backward(**kwargs)  # pyright: ignore[reportUnknownMemberType] - torch leaves it untyped

    def clip_gradients(
        self,
        module: nn.Module,
        optimizer: Optimizer,
        *,
        clip_val: float | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        error_if_nonfinite: bool = True,
    ) -> torch.Tensor | None:
        """Bound the gradients of `optimizer`'s parameters; give exactly one of `clip_val` and `max_norm`.

        Returns:
            The total norm before clipping, when clipping by norm.
        """
        if (clip_val is None) == (max_norm is None):
            given = "both" if clip_val is not None else None
            raise ConfigError(
                "clip_gradients(max_norm)", given, "one bound is needed", "Give clip_val or max_norm"
            )
        if self._scaler is not None:
            cast("Any", optimizer).unscale()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if clip_val is not None:
            return self._strategy.clip_value(parameters, clip_val)
        return self._strategy.clip_norm(parameters, cast("float", max_norm), norm_type, error_if_nonfinite)

    def autocast(self) -> AbstractContextManager[Any]:
        """A context that computes in the chosen precision, for code outside `forward`."""
        return self._plan.precision.autocast(self._device)

    def no_backward_sync(self, module: nn.Module, enabled: bool = True) -> AbstractContextManager[Any]:
        """A context in which gradients are not averaged over the processes, for gradient accumulation."""
        if not enabled:
            return nullcontext()
        wrapped = module.get_submodule("_forward_module") if isinstance(module, FabricModule) else module
        return self._strategy.no_sync(wrapped)

    # --- between processes ------------------------------------------------------------------------

    def all_reduce(self, data: T, reduce_op: ReduceOp = "mean") -> T:
        """Tensors and numbers in `data`, reduced over the processes."""
        return collectives.all_reduce(data, reduce_op, self._device)

    def reduce(self, data: T, reduce_op: ReduceOp = "mean") -> T:
        """The same as `all_reduce`."""
        return self.all_reduce(data, reduce_op)

    def all_gather(self, data: T) -> T:
        """Tensors and numbers in `data`, stacked over the processes in a new first dimension."""
        return collectives.all_gather(data, self._device)

    def gather(self, data: T) -> T:
        """The same as `all_gather`."""
        return self.all_gather(data)

    def broadcast(self, item: T, src: int = 0) -> T:
        """The object that process `src` holds."""
        return collectives.broadcast(item, src)

    def barrier(self) -> None:
        """Wait until every process is here."""
        collectives.barrier(self._device)

    @contextmanager
    def rank_zero_first(self, local: bool = False) -> Generator[None]:
        """Rank 0 (of each machine, if `local`) runs the body before the others do: downloads, caches."""
        first = (self.local_rank if local else self.global_rank) == 0
        if not first:
            self.barrier()
        yield
        if first:
            self.barrier()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """`print` on rank 0."""
        if self.is_global_zero:
            print(*args, **kwargs)

    # --- files ------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
        """Write a checkpoint; call it on all ranks.

        Args:
            path: The file, which appears whole or not at all.
            state: Modules, optimizers, loaders (anything with `state_dict`) and plain values, by name.
        """
        if self.is_global_zero:
            save_file(path, state_of(state))
        self.barrier()

    def load(
        self,
        path: str | os.PathLike[str],
        state: dict[str, Any] | None = None,
        *,
        strict: bool = True,
        weights_only: bool = True,
    ) -> dict[str, Any]:
        """Read a checkpoint.

        Args:
            path: What `save` wrote.
            state: Objects to restore in place, by name; plain values in it are replaced.
            strict: Whether the file must hold every name of `state`.
            weights_only: Refuse files that hold more than tensors and plain values.

        Returns:
            What was in the file and not in `state`; all of it without `state`.
        """
        content = cast("dict[str, Any]", load_file(path, weights_only=weights_only))
        self.barrier()
        if state is None:
            return content
        return restore_state(state, content, path, strict=strict)

    # --- people -----------------------------------------------------------------------------------

    def log(self, name: str, value: Any, step: int | None = None) -> None:
        """Send one number to every logger."""
        self.log_dict({name: value}, step)

    def log_dict(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Send numbers to every logger, from rank 0."""
        if self.is_global_zero:
            numbers = {name: float(value) for name, value in metrics.items()}
            for logger in self.loggers:
                logger.log_metrics(numbers, step)

    def call(self, hook_name: str, *args: Any, **kwargs: Any) -> None:
        """Call the method `hook_name` of every callback that has it."""
        for callback in self.callbacks:
            method = getattr(callback, hook_name, None)
            if method is not None:
                method(*args, **kwargs)

    @staticmethod
    def seed_everything(seed: int | None = None, *, verbose: bool = False) -> int:
        """Seed Python's, numpy's and torch's generators, see `blixt.fabric.seed_everything`."""
        return seed_everything(seed, verbose=verbose)


def _run_in_rank(rebuild: dict[str, Any], function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    fabric = Fabric(**rebuild)
    return fabric.launch(function, *args)


def _as_list(items: Any) -> list[Any]:
    if items is None:
        return []
    return list(cast("list[Any]", items)) if isinstance(items, (list, tuple)) else [items]
