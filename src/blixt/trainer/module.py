"""A model together with how it is trained."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer

from blixt.fabric import Fabric, FabricError, Logger, to_device
from blixt.trainer.hparams import HyperparametersMixin
from blixt.trainer.module_hooks import ModuleHooks

if TYPE_CHECKING:
    from blixt.trainer.trainer import Trainer


class Module(HyperparametersMixin, ModuleHooks):
    """An `nn.Module` that says what a training step is and which optimizers run.

    Override `training_step` and `configure_optimizers`, and any of the hooks in `ModuleHooks`.

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

    automatic_optimization: bool = True
    """False hands `zero_grad`, `manual_backward` and `step` to `training_step`."""

    _trainer: "Trainer | None" = None

    # --- what the trainer knows -------------------------------------------------------------------

    @property
    def trainer(self) -> "Trainer":
        """The trainer that runs this module."""
        if self._trainer is None:
            raise FabricError(
                f"{type(self).__name__} is not attached to a Trainer. Call trainer.fit(module)."
            )
        return self._trainer

    @trainer.setter
    def trainer(self, trainer: "Trainer | None") -> None:
        vars(self)["_trainer"] = trainer

    @property
    def fabric(self) -> Fabric:
        """The trainer's Fabric."""
        return self.trainer.fabric

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        first = next(self.parameters(), None)
        return first.device if first is not None else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the parameters."""
        first = next(self.parameters(), None)
        return first.dtype if first is not None else torch.get_default_dtype()

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
        """The index of this process among all."""
        return self._trainer.global_rank if self._trainer is not None else 0

    @property
    def logger(self) -> Logger | None:
        """The trainer's first logger."""
        return self.trainer.logger

    @property
    def loggers(self) -> list[Logger]:
        """The trainer's loggers."""
        return self.trainer.loggers

    # --- logging ----------------------------------------------------------------------------------

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool = True,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: str | Callable[..., Any] = "mean",
        sync_dist: bool = False,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Log one number from within a hook.

        Args:
            name: Of the metric.
            value: A number, a tensor of one element, or a torchmetrics metric.
            prog_bar: Show it in the progress bar.
            logger: Send it to the loggers.
            on_step: Give out its value at steps; default by hook: yes in training batches.
            on_epoch: Give out its value over the epoch; default by hook: yes in evaluation and epoch hooks.
            reduce_fx: Over the epoch: "mean" (weighted by batch_size), "sum", "min" or "max".
            sync_dist: Reduce over the processes when it is given out.
            add_dataloader_idx: Tell evaluation loaders apart by a suffix.
            batch_size: Weight of the value; default the first dimension of the batch's first tensor.
            rank_zero_only: Only rank 0 logs it; then it cannot be monitored.
        """
        trainer = self._trainer
        if trainer is None:
            return
        given = (prog_bar, logger, on_step, on_epoch, reduce_fx, sync_dist, rank_zero_only)
        trainer.logbook.log(name, value, batch_size, add_dataloader_idx, given)

    def log_dict(self, dictionary: Mapping[str, Any], **options: Any) -> None:
        """Log several numbers with the same options, see `log`."""
        for name, value in dictionary.items():
            self.log(name, value, **options)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """`print` on rank 0."""
        self.trainer.print(*args, **kwargs)

    def all_gather(self, data: Any) -> Any:
        """Tensors and numbers of all ranks, stacked in a new first dimension."""
        return self.trainer.fabric.all_gather(data)

    # --- what to override -------------------------------------------------------------------------

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the loss of a batch; gets `batch` and, if it wants it, `batch_idx`.

        Returns:
            The loss, a dict with "loss", or None to skip the batch.
        """
        raise FabricError(f"{type(self).__name__} has no training_step. Write one to use trainer.fit.")

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """Judge a batch; gets `batch` and, if it wants them, `batch_idx` and `dataloader_idx`."""

    def test_step(self, *args: Any, **kwargs: Any) -> Any:
        """Judge a batch of the test data."""

    def predict_step(self, *args: Any, **kwargs: Any) -> Any:
        """Answer a batch; by default `self(batch)`."""
        return self(args[0])

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
        """Make layers late, once the device is known."""

    def prepare_data(self) -> None:
        """Download or convert; runs once a machine."""

    def setup(self, stage: str) -> None:
        """Before anything runs; `stage` is fit, validate, test or predict."""

    def teardown(self, stage: str) -> None:
        """After everything ran."""

    def train_dataloader(self) -> Any:
        """The loader for `fit`, unless one is given there."""
        return None

    def val_dataloader(self) -> Any:
        """One loader or several for validation."""
        return None

    def test_dataloader(self) -> Any:
        """One loader or several for `test`."""
        return None

    def predict_dataloader(self) -> Any:
        """One loader or several for `predict`."""
        return None

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change a batch before it goes to the device."""
        return batch

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch of your own type to the device."""
        return to_device(batch, device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change a batch on the device, such as augmentations there."""
        return batch

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Optimizer, optimizer_closure: Callable[[], Any]
    ) -> None:
        """Step the optimizer; `optimizer_closure` runs forward, `zero_grad` and backward."""
        optimizer.step(closure=optimizer_closure)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Clear the gradients."""
        optimizer.zero_grad()

    def backward(self, loss: torch.Tensor) -> None:
        """Compute the gradients."""
        loss.backward()  # pyright: ignore[reportUnknownMemberType] - torch leaves it untyped

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None, gradient_clip_algorithm: str
    ) -> None:
        """Clip in a way of your own; gradients are unscaled here."""
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Step a scheduler, with its monitored metric if it has one."""
        if metric is None:
            scheduler.step()
        else:
            scheduler.step(metric)

    # --- manual optimisation and helpers ----------------------------------------------------------

    def optimizers(self) -> Any:
        """The optimizer, or the list of them."""
        every = self.trainer.optimizers
        return every[0] if len(every) == 1 else every

    def lr_schedulers(self) -> Any:
        """The scheduler, the list of them, or None."""
        every = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        return every[0] if len(every) == 1 else every or None

    def manual_backward(self, loss: torch.Tensor) -> None:
        """`loss.backward()` with the precision's scaling and the backward hooks."""
        for hook in self.trainer.hooks.of("on_before_backward"):
            hook(loss)
        self.trainer.fabric.backward(loss)
        for hook in self.trainer.hooks.of("on_after_backward"):
            hook()

    def clip_gradients(
        self, optimizer: Optimizer, gradient_clip_val: float | None, gradient_clip_algorithm: str = "norm"
    ) -> None:
        """Bound the gradients of the optimizer's parameters."""
        if not gradient_clip_val:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        strategy = self.trainer.fabric.strategy
        if gradient_clip_algorithm == "value":
            strategy.clip_value(parameters, gradient_clip_val)
        else:
            strategy.clip_norm(parameters, gradient_clip_val, 2.0, False)

    @contextmanager
    def toggled_optimizer(self, optimizer: Optimizer) -> Generator[None]:
        """Inside, only this optimizer's parameters want gradients: for GANs."""
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        changed = [p for p in self.parameters() if p.requires_grad and id(p) not in own]
        for parameter in changed:
            parameter.requires_grad = False
        try:
            yield
        finally:
            for parameter in changed:
                parameter.requires_grad = True

    def freeze(self) -> None:
        """Stop training all parameters."""
        self.requires_grad_(False)
        self.eval()

    def unfreeze(self) -> None:
        """Train all parameters."""
        self.requires_grad_(True)
        self.train()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_trainer": None}
