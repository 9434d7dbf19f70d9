"""A model together with how it is trained."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from torch.optim import Optimizer

from blixt.fabric import ConfigError, Fabric, Logger
from blixt.trainer.attached import FabricAsTrainer, not_attached
from blixt.trainer.data_hooks import DataHooks
from blixt.trainer.hparams import HyperparametersMixin
from blixt.trainer.module_export import Exporting
from blixt.trainer.module_hooks import ModuleHooks
from blixt.trainer.module_log import Speaking
from blixt.trainer.module_manual import ManualOptimization

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from blixt.trainer.trainer import Trainer


class Module(Speaking, Exporting, HyperparametersMixin, DataHooks, ManualOptimization, ModuleHooks):
    """An `nn.Module` that says what a training step is and which optimizers run.

    Override `training_step` and `configure_optimizers`, and any hook of `ModuleHooks` and `DataHooks`.

    Attributes:
        example_input_array: What `forward` takes: a tensor, a tuple of positional or a dict of keyword
            arguments; for the summary's sizes, the loggers' graphs and exports.

    Example:
        >>> class Classifier(Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(4, 2)
        ...
        ...     def training_step(self, batch, batch_idx):
        ...         loss = torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])
        ...         self.log("loss", loss)
        ...         return loss
        ...
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=0.1)
    """

    example_input_array: Any = None
    __jit_unused_properties__: ClassVar[list[str]] = []
    """Properties that torch.jit.script leaves out: all of these, because they are about the run."""
    _strict_loading: bool | None = None

    # --- what the trainer knows -------------------------------------------------------------------

    @property
    def trainer(self) -> "Trainer":
        """The trainer that runs this module; in a Fabric, what of a trainer a Fabric can answer."""
        if self._fabric is not None:
            return FabricAsTrainer(self._fabric)  # pyright: ignore[reportReturnType] - it answers for a trainer
        if self._trainer is None:
            raise not_attached(self)
        return self._trainer

    @trainer.setter
    def trainer(self, trainer: "Trainer | None") -> None:
        for module in self._family():
            vars(module)["_trainer"] = trainer

    @property
    def fabric(self) -> Fabric | None:
        """The Fabric that runs this module, by itself or under its trainer."""
        return self._fabric if self._trainer is None else self._trainer.fabric

    @fabric.setter
    def fabric(self, fabric: Fabric | None) -> None:
        self.attach_fabric(fabric)

    def attach_fabric(
        self, fabric: Fabric | None, optimizers: tuple[Optimizer, ...] | list[Optimizer] = ()
    ) -> None:
        """Run in `fabric` without a trainer; `Fabric.setup` calls it with the optimizers it has set up."""
        for module in self._family():
            vars(module)["_fabric"] = fabric
            vars(module)["_fabric_optimizers"] = tuple(optimizers)

    @property
    def _runs_in(self) -> "Trainer | Fabric | None":
        return self._trainer if self._trainer is not None else self._fabric

    def _family(self) -> "list[Module]":
        return [module for module in self.modules() if isinstance(module, Module)]

    @property
    def device(self) -> torch.device:
        """Where the parameters are; without any, where the run is."""
        first: torch.Tensor | None = next(self.parameters(), None)
        if first is None:
            first = next(self.buffers(), None)
        if first is not None:
            return first.device
        return self.fabric.device if self.fabric is not None else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the parameters."""
        first = next((p for p in self.parameters() if p.is_floating_point()), None)
        return first.dtype if first is not None else torch.get_default_dtype()

    @property
    def on_gpu(self) -> bool:
        """Whether the parameters are on a CUDA device."""
        return self.device.type == "cuda"

    @property
    def device_mesh(self) -> "DeviceMesh | None":
        """The named mesh of a strategy that has one, for `configure_model`."""
        return None if self.fabric is None else getattr(self.fabric.strategy, "device_mesh", None)

    @property
    def current_epoch(self) -> int:
        """The running epoch, 0 without a trainer."""
        return self._trainer.current_epoch if self._trainer is not None else 0

    @property
    def global_step(self) -> int:
        """Optimizer steps so far, 0 without a trainer."""
        return self._trainer.global_step if self._trainer is not None else 0

    @property
    def global_rank(self) -> int:
        """The index of this process among all, 0 without a trainer."""
        return self._runs_in.global_rank if self._runs_in is not None else 0

    @property
    def local_rank(self) -> int:
        """The index of this process on its machine, 0 without a trainer."""
        return self._runs_in.local_rank if self._runs_in is not None else 0

    @property
    def logger(self) -> Logger | None:
        """The first logger."""
        if self._trainer is not None:
            return self._trainer.logger
        return next(iter(self.loggers), None)

    @property
    def loggers(self) -> list[Logger]:
        """The trainer's loggers, or the Fabric's."""
        if self._trainer is not None:
            return self._trainer.loggers
        return self._fabric.loggers if self._fabric is not None else []

    @property
    def strict_loading(self) -> bool:
        """Whether loading a checkpoint wants the names of all weights to match; True unless set."""
        return self._strict_loading is not False

    @strict_loading.setter
    def strict_loading(self, strict: bool) -> None:
        self._strict_loading = strict

    # --- what to override -------------------------------------------------------------------------

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the loss of a batch; gets `batch` and, if it wants it, `batch_idx`.

        Returns:
            The loss, a dict with "loss" (and "weight", to weigh it in a window), or None to skip the batch.
        """
        reason = f"{type(self).__name__} has no training_step"
        raise ConfigError("fit(model)", type(self).__name__, reason, "Write one that returns the loss")

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """Judge a batch; gets `batch` and, if it wants them, `batch_idx` and `dataloader_idx`."""

    def test_step(self, *args: Any, **kwargs: Any) -> Any:
        """Judge a batch of the test data."""

    def predict_step(self, *args: Any, **kwargs: Any) -> Any:
        """Answer a batch; by default `self(batch)`."""
        return self(args[0] if args else kwargs["batch"])

    def configure_optimizers(self) -> Any:
        """Which optimizers and learning-rate schedulers run.

        Returns:
            An optimizer; a list of them; (optimizers, schedulers); a dict with "optimizer" and
            "lr_scheduler"; a list of such dicts; or None.
        """
        return None

    def configure_callbacks(self) -> Any:
        """Callbacks of the module's own; they replace the trainer's of the same class."""
        return []

    def configure_model(self) -> None:
        """Make or shard layers late, once the device is known; may run several times on one module."""

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step the optimizer; `optimizer_closure` runs forward, `zero_grad` and backward."""
        optimizer.step(closure=optimizer_closure)  # pyright: ignore[reportCallIssue, reportArgumentType]

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Clear the gradients."""
        optimizer.zero_grad()

    def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients; `loss` is scaled already when the precision wants it."""
        if self._fabric is not None:
            return self._fabric.backward(loss, *args, **kwargs)
        loss.backward(*args, **kwargs)  # pyright: ignore[reportUnknownMemberType] - torch leaves it untyped

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip in a way of your own; gradients are unscaled here."""
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Step a scheduler, with its monitored metric if it has one."""
        if metric is None:
            scheduler.step()
        else:
            scheduler.step(metric)

    def __getstate__(self) -> dict[str, Any]:
        return {**nn.Module.__getstate__(self), "_trainer": None, "_fabric": None, "_fabric_optimizers": ()}


Module.__jit_unused_properties__ += sorted(
    name for name in dir(Module) if isinstance(inspect.getattr_static(Module, name), property)
)
