"""One object with few verbs that lets a PyTorch loop run on any device, precision and number of processes."""

from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Never, TypeVar, cast
from weakref import WeakSet

import torch
from torch import nn
from torch.optim import Optimizer

from blixt.fabric.accelerators import Accelerator, Devices
from blixt.fabric.compiled import unwrap_compiled
from blixt.fabric.data import ResumableLoader, map_style
from blixt.fabric.errors import ConfigError, WrongTypeError, reject_unknown
from blixt.fabric.exchange import Exchange
from blixt.fabric.files import Files
from blixt.fabric.former import Former
from blixt.fabric.loggers.base import Logger
from blixt.fabric.plan import Plugin, launched_by_cli, resolve_plan
from blixt.fabric.precision import Precision, PrecisionName
from blixt.fabric.reports import Reports
from blixt.fabric.rng import seed_everything
from blixt.fabric.samplers import shard_loader
from blixt.fabric.setup import InsideBackward, prepare_module, watches_backward
from blixt.fabric.start import Starting
from blixt.fabric.strategies import Strategy
from blixt.fabric.tree import to_device
from blixt.fabric.wrapped_optimizer import FabricOptimizer, unwrap_optimizer, wrap_optimizer
from blixt.fabric.wrappers import FabricModule

T = TypeVar("T")
_ARGUMENTS = (
    "accelerator",
    "strategy",
    "devices",
    "num_nodes",
    "precision",
    "plugins",
    "callbacks",
    "loggers",
)


class Fabric(Starting, Exchange, Files, Reports, Former):
    """Everything about devices and processes; knows nothing of epochs.

    Args:
        accelerator: "auto" (the fastest there is), "cpu", "cuda", "gpu", "mps", the name of one that a
            package registered, or an `Accelerator`.
        strategy: "auto", a name such as "ddp" or "fsdp", or a `Strategy`.
        devices: How many processes on this machine ("auto", a number, -1 for all), or which devices
            ("0,2" or a list).
        num_nodes: How many machines. They are started by torchrun, a cluster, a blixt Job, or by hand with
            MASTER_ADDR, MASTER_PORT and NODE_RANK set.
        precision: "32-true" (the default), "64-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true",
            "float8", one of bitsandbytes ("nf4", "nf4-dq", "fp4", "fp4-dq", "int8", "int8-training"),
            "transformer-engine", several joined by "+", or a `Precision`.
        plugins: A `Precision`, `ClusterEnvironment`, `CheckpointIO` or `LayerSync`, or a list. Precisions
            compose with each other and with `precision`.
        callbacks: Objects whose methods `fabric.call(name)` calls; one or a list.
        loggers: Where `fabric.log` sends numbers; one or a list.

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
        precision: PrecisionName | Precision | None = None,
        plugins: Plugin | Iterable[Plugin] | None = None,
        callbacks: object | list[Any] | None = None,
        loggers: Logger | list[Logger] | None = None,
        **unknown: Never,
    ) -> None:
        reject_unknown("Fabric", unknown, _ARGUMENTS)
        given = (accelerator, strategy, devices, num_nodes, precision, plugins, callbacks, loggers)
        self._rebuild = dict(zip(_ARGUMENTS, given, strict=True))
        plan = resolve_plan(accelerator, strategy, devices, num_nodes, precision, plugins)
        super().__init__(plan, _as_list(callbacks), _as_list(loggers))
        self._modules: WeakSet[FabricModule] = WeakSet()
        self._watched = watches_backward(self._strategy, self._scaler is not None)
        self._own_names = {*vars(self), "_own_names"}
        if launched_by_cli() and plan.world is not None:
            self._connect()

    # --- set-up -----------------------------------------------------------------------------------

    def setup(
        self,
        module: nn.Module,
        *optimizers: Optimizer,
        scheduler: Any = None,
        move_to_device: bool = True,
        _reapply_compile: bool = True,
    ) -> Any:
        """Prepare a module and its optimizers.

        A module that `torch.compile` compiled is unwrapped, prepared, and compiled again with the same
        options, so that the compiler sees what the strategy made of it.

        Args:
            module: Any module.
            optimizers: Optimizers of its parameters.
            scheduler: A learning-rate scheduler of one of them; it comes back last.
            move_to_device: Move the parameters to this process's device.
            _reapply_compile: False leaves a compiled module as it is, inside of the strategy's wrapper.

        Returns:
            The wrapped module; with optimizers, the tuple (module, *optimizers), and the scheduler if one
            was given.

        Raises:
            ConfigError: When the module or an optimizer has been set up before.
        """
        wrapped, plain = self._prepare(module, optimizers, move_to_device, _reapply_compile)
        ready = tuple(self._wrap_optimizer(optimizer, wrapped.module) for optimizer in plain)
        self._attach(wrapped, ready)
        self.call("on_after_setup", fabric=self, module=wrapped)
        if not optimizers:
            return wrapped
        return (wrapped, *ready) if scheduler is None else (wrapped, *ready, scheduler)

    def setup_module(
        self, module: nn.Module, move_to_device: bool = True, _reapply_compile: bool = True
    ) -> FabricModule:
        """Prepare a module on its own, see `setup`. Sharded strategies want it before optimizers are made."""
        wrapped, _ = self._prepare(module, (), move_to_device, _reapply_compile)
        self._attach(wrapped, ())
        return wrapped

    def setup_optimizers(self, *optimizers: Optimizer) -> Any:
        """Prepare optimizers on their own; one comes back as itself, several as a tuple."""
        self._connect()
        if not optimizers:
            raise ConfigError("setup_optimizers()", None, "there is no optimizer", "Give one or more")
        ready = tuple(self._wrap_optimizer(optimizer, None) for optimizer in optimizers)
        return ready[0] if len(ready) == 1 else ready

    def scaled(self, optimizer: Optimizer) -> Optimizer:
        """The optimizer itself, unless the precision has a gradient scaler; then one that asks it."""
        if self._scaler is None or isinstance(optimizer, FabricOptimizer):
            return optimizer
        return wrap_optimizer(optimizer, self._strategy, self._scaler)

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
        if not loaders:
            raise ConfigError("setup_dataloaders()", None, "there is no loader", "Give one or more")
        if any(isinstance(loader, ResumableLoader) for loader in loaders):
            raise ConfigError("setup_dataloaders()", "a loader", "it is set up already", "Do it once")
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
        rank, size = self._strategy.data_parallel_rank, self._strategy.data_parallel_size
        if size > 1 and shard and (indexed := map_style(loader)) is not None:
            steady = self._strategy.wraps_evaluation
            loader = shard_loader(indexed, rank, size, even=even, steady=steady)
        device = self._device if move_to_device else None
        return ResumableLoader(loader, device=device, rank=rank)

    def to_device(self, data: T) -> T:
        """Move a module, a tensor or nested tensors to this process's device."""
        return to_device(data, self._device)

    def _prepare(
        self, module: nn.Module, optimizers: tuple[Optimizer, ...], move: bool, recompile: bool
    ) -> tuple[FabricModule, list[Optimizer]]:
        self._connect()
        for item, name in ((unwrap_compiled(module)[0], "module"), *((o, "optimizer") for o in optimizers)):
            if isinstance(item, (FabricModule, FabricOptimizer)):
                kind = type(unwrap_optimizer(item)).__name__
                raise ConfigError(f"setup({name})", kind, "it is set up already", "Do it once")
        wrapped, ready = prepare_module(
            module,
            optimizers,
            strategy=self._strategy,
            precision=self.precision,
            device=self._device,
            scaled=self._scaler is not None,
            move_to_device=move,
            recompile=recompile,
        )
        self._modules.add(wrapped)
        return wrapped, ready

    def _wrap_optimizer(self, optimizer: Optimizer, module: nn.Module | None) -> Any:
        if isinstance(optimizer, FabricOptimizer):
            kind = type(optimizer.optimizer).__name__
            raise ConfigError("setup(optimizer)", kind, "it is set up already", "Do it once")
        return wrap_optimizer(optimizer, self._strategy, self._scaler, self.callbacks, module)

    def _attach(self, wrapped: FabricModule, optimizers: tuple[Any, ...]) -> None:
        """Let a Trainer's module know that it is in a Fabric; it also takes part in `call`."""
        original: Any = wrapped.module
        attach = getattr(original, "attach_fabric", None)
        if attach is not None:
            attach(self, list(optimizers))
            if not any(callback is original for callback in self.callbacks):
                self.callbacks.append(original)

    # --- a step -----------------------------------------------------------------------------------

    def backward(
        self, tensor: torch.Tensor, *args: Any, model: nn.Module | None = None, **kwargs: Any
    ) -> None:
        """Compute gradients, in place of `tensor.backward()`.

        Args:
            tensor: The loss.
            args: For `torch.Tensor.backward`.
            model: The module that was set up, for strategies that need to know when there are several.
            kwargs: For `torch.Tensor.backward`.
        """
        if self._scaler is not None:
            tensor = self._scaler.scale(tensor)
        if args:
            kwargs = {**kwargs, **dict(zip(("gradient", "retain_graph", "create_graph"), args, strict=False))}
        if model is not None:
            wrapped = unwrap_compiled(model)[0]
            if isinstance(wrapped, FabricModule):
                self._strategy.activate(wrapped.get_submodule("_forward_module"))
        if self._watched:
            with InsideBackward():
                self._strategy.backward(tensor, **kwargs)
        else:
            self._strategy.backward(tensor, **kwargs)

    def clip_gradients(
        self,
        module: nn.Module,
        optimizer: Optimizer,
        clip_val: float | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        error_if_nonfinite: bool = True,
    ) -> torch.Tensor | None:
        """Bound gradients before `optimizer.step()`; they are unscaled first.

        Args:
            module: The module whose gradients they are.
            optimizer: The optimizer that will step with them.
            clip_val: Clamp each gradient to [-clip_val, clip_val].
            max_norm: Scale all gradients so that their total norm is at most this.
            norm_type: Which norm, such as 2.0 or float("inf").
            error_if_nonfinite: Raise when the norm is NaN or infinite.

        Returns:
            The total norm before clipping, when clipping by norm.
        """
        if (clip_val is None) == (max_norm is None):
            given = "both" if clip_val is not None else None
            raise ConfigError(
                "clip_gradients(max_norm)", given, "one bound is needed", "Give clip_val or max_norm"
            )
        raw = unwrap_optimizer(optimizer)
        if self._scaler is not None:
            self._scaler.unscale_(raw)
        parameters = [p for group in raw.param_groups for p in group["params"]]
        if clip_val is not None:
            return self._strategy.clip_value(parameters, clip_val)
        return self._strategy.clip_norm(parameters, cast("float", max_norm), norm_type, error_if_nonfinite)

    def autocast(self) -> AbstractContextManager[Any]:
        """A context that computes in the chosen precision, for code outside `forward`."""
        return self.precision.autocast(self._device)

    def no_backward_sync(self, module: nn.Module, enabled: bool = True) -> AbstractContextManager[Any]:
        """A context in which gradients are not averaged over the processes, for gradient accumulation.

        Args:
            module: What `setup` gave back.
            enabled: False makes the context do nothing: `enabled=not last_of_window`.
        """
        wrapped = unwrap_compiled(module)[0]
        if not isinstance(wrapped, FabricModule):
            kind = type(wrapped).__name__
            raise WrongTypeError(
                "no_backward_sync(module)", kind, "it is not set up", "Give what fabric.setup gave back"
            )
        if not enabled:
            return nullcontext()
        return self._strategy.no_sync(unwrap_compiled(wrapped.get_submodule("_forward_module"))[0])

    def init_module(self, empty_init: bool | None = None) -> AbstractContextManager[Any]:
        """A context to make a module in: its parameters appear where and as they will be kept.

        Args:
            empty_init: Leave parameters unfilled, because a checkpoint will fill them. None lets the strategy
                choose: sharded ones make them on the meta device.
        """
        self._connect()
        where = self._strategy.init_context(self._device, empty_init)
        return _together(where, self.precision.init_context())

    def init_tensor(self) -> AbstractContextManager[Any]:
        """A context to make tensors in: on this process's device, in the type of the precision."""
        where = self._strategy.tensor_init_context(self._device)
        return _together(where, self.precision.tensor_context())

    @staticmethod
    def seed_everything(seed: int | None = None, workers: bool | None = None, verbose: bool = False) -> int:
        """Seed Python's, numpy's and torch's generators, see `blixt.fabric.seed_everything`."""
        return seed_everything(seed, workers is not False, verbose)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_modules": list(self._modules)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _modules=WeakSet(state["_modules"]))


@contextmanager
def _together(*contexts: AbstractContextManager[Any]) -> Generator[None]:
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield


def _as_list(items: Any) -> list[Any]:
    if items is None:
        return []
    return list(cast("list[Any]", items)) if isinstance(items, (list, tuple)) else [items]
