"""What others may do at each point of a run, without touching the loop."""

import weakref
from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from blixt.fabric import ConfigError
from blixt.trainer.attached import NotAttachedError

if TYPE_CHECKING:
    import torch
    from torch.optim import Optimizer

    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer

_GROUPS = (
    "blixt.trainer.callbacks",
    "lightning.pytorch.callbacks_factory",
    "pytorch_lightning.callbacks_factory",
)


class Callback:
    """Override what you need; methods that stay as they are here are never called.

    Every hook gets the trainer and the module. Callbacks run before the module's hook of the same name.

    Callbacks that a package registers as entry points run in every Trainer: `callbacks_from_entry_points`.
    """

    @property
    def state_key(self) -> str:
        """Under which name the state is kept in checkpoints.

        Two callbacks of one class need different keys: build them with `_generate_state_key`.
        """
        return type(self).__qualname__

    def _generate_state_key(self, **kwargs: Any) -> str:
        """A key of the class's name and the arguments that tell its instances apart."""
        return f"{type(self).__qualname__}{kwargs!r}"

    def log(self, name: str, value: Any, **options: Any) -> None:
        """`Module.log` of the module that runs, for hooks in which logging has a meaning."""
        self._speaker("log").log(name, value, **options)

    def log_dict(self, dictionary: Any, **options: Any) -> None:
        """`Module.log_dict` of the module that runs."""
        self._speaker("log_dict").log_dict(dictionary, **options)

    def _speaker(self, verb: str) -> "Module":
        reference = vars(self).get("_logs_through")
        module = None if reference is None else reference()
        if module is None:
            raise NotAttachedError(f"{type(self).__qualname__}.{verb}: no Trainer runs this callback.")
        return module

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_logs_through"}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint should keep, as plain values."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""

    def on_save_checkpoint(self, trainer: "Trainer", module: "Module", checkpoint: dict[str, Any]) -> None:
        """Change the checkpoint before it is written."""

    def on_load_checkpoint(self, trainer: "Trainer", module: "Module", checkpoint: dict[str, Any]) -> None:
        """See the checkpoint before anything of it is restored."""

    def setup(self, trainer: "Trainer", module: "Module", stage: str) -> None:
        """Before anything runs; `stage` is fit, validate, test or predict."""

    def teardown(self, trainer: "Trainer", module: "Module", stage: str) -> None:
        """After everything ran."""

    def on_exception(self, trainer: "Trainer", module: "Module", exception: BaseException) -> None:
        """The run ends with an error."""

    def on_fit_start(self, trainer: "Trainer", module: "Module") -> None:
        """Optimizers exist and checkpoints are restored."""

    def on_fit_end(self, trainer: "Trainer", module: "Module") -> None:
        """The last hook of a fit but teardown."""

    def on_sanity_check_start(self, trainer: "Trainer", module: "Module") -> None:
        """A few validation batches run before training, to fail early."""

    def on_sanity_check_end(self, trainer: "Trainer", module: "Module") -> None:
        """They went well."""

    def on_train_start(self, trainer: "Trainer", module: "Module") -> None:
        """Before the first epoch."""

    def on_train_end(self, trainer: "Trainer", module: "Module") -> None:
        """After the last epoch."""

    def on_train_epoch_start(self, trainer: "Trainer", module: "Module") -> None:
        """Before an epoch's first batch."""

    def on_train_epoch_end(self, trainer: "Trainer", module: "Module") -> None:
        """After an epoch's last batch and its validation."""

    def on_train_batch_start(
        self, trainer: "Trainer", module: "Module", batch: Any, batch_idx: int
    ) -> int | None:
        """Before a training step; -1 skips the rest of the epoch."""

    def on_train_batch_end(
        self, trainer: "Trainer", module: "Module", outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After a training step, before a validation that is due."""

    def on_checkpoint_due(self, trainer: "Trainer", module: "Module", at_epoch_end: bool) -> None:
        """The moment to save: all numbers are fresh and every counter is consistent.

        Comes after an optimizer step and the validation that was due with it, and once more when the
        epoch's numbers have been collected.
        """

    def on_before_zero_grad(self, trainer: "Trainer", module: "Module", optimizer: "Optimizer") -> None:
        """Before gradients are cleared."""

    def on_before_backward(self, trainer: "Trainer", module: "Module", loss: "torch.Tensor") -> None:
        """Before backward."""

    def on_after_backward(self, trainer: "Trainer", module: "Module") -> None:
        """After backward: gradients are there."""

    def on_before_optimizer_step(self, trainer: "Trainer", module: "Module", optimizer: "Optimizer") -> None:
        """Before the optimizer moves the weights."""

    def on_validation_start(self, trainer: "Trainer", module: "Module") -> None:
        """A validation run begins."""

    def on_validation_end(self, trainer: "Trainer", module: "Module") -> None:
        """A validation run ends; its metrics are in `trainer.callback_metrics`."""

    def on_validation_epoch_start(self, trainer: "Trainer", module: "Module") -> None:
        """Before the first validation batch."""

    def on_validation_epoch_end(self, trainer: "Trainer", module: "Module") -> None:
        """After the last validation batch."""

    def on_validation_batch_start(
        self, trainer: "Trainer", module: "Module", batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Before a validation step."""

    def on_validation_batch_end(
        self,
        trainer: "Trainer",
        module: "Module",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """After a validation step."""

    def on_test_start(self, trainer: "Trainer", module: "Module") -> None:
        """A test run begins."""

    def on_test_end(self, trainer: "Trainer", module: "Module") -> None:
        """A test run ends."""

    def on_test_epoch_start(self, trainer: "Trainer", module: "Module") -> None:
        """Before the first test batch."""

    def on_test_epoch_end(self, trainer: "Trainer", module: "Module") -> None:
        """After the last test batch."""

    def on_test_batch_start(
        self, trainer: "Trainer", module: "Module", batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Before a test step."""

    def on_test_batch_end(
        self,
        trainer: "Trainer",
        module: "Module",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """After a test step."""

    def on_predict_start(self, trainer: "Trainer", module: "Module") -> None:
        """A predict run begins."""

    def on_predict_end(self, trainer: "Trainer", module: "Module") -> None:
        """A predict run ends."""

    def on_predict_epoch_start(self, trainer: "Trainer", module: "Module") -> None:
        """Before the first predict batch."""

    def on_predict_epoch_end(self, trainer: "Trainer", module: "Module") -> None:
        """After the last predict batch."""

    def on_predict_batch_start(
        self, trainer: "Trainer", module: "Module", batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Before a predict step."""

    def on_predict_batch_end(
        self,
        trainer: "Trainer",
        module: "Module",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """After a predict step."""


def let_callbacks_log(callbacks: Iterable[Callback], module: "Module") -> None:
    """From now on the callbacks' `log` is that of `module`; they do not keep it alive."""
    for callback in callbacks:
        vars(callback)["_logs_through"] = weakref.ref(module)


def callbacks_from_entry_points() -> list[Callback]:
    """New callbacks of the packages that registered a factory for them.

    A factory takes nothing and gives a `Callback` or a list of them. It is an entry point of the group
    "blixt.trainer.callbacks", or of the one that Lightning looks into.

    Raises:
        ConfigError: When a factory gives something else.
    """
    found: list[Callback] = []
    for factory in _factories():
        made: Any = factory.load()()
        for callback in cast("list[Any]", made if isinstance(made, (list, tuple)) else [made]):
            if not isinstance(callback, Callback):
                reason = f"it gives a {type(callback).__name__}, which is no Callback"
                raise ConfigError("entry point", factory.value, reason, "Update or remove that package")
            found.append(callback)
    return found


@cache
def _factories() -> tuple[Any, ...]:
    """Reading what is installed takes milliseconds, so it is done once."""
    return tuple(point for group in _GROUPS for point in entry_points(group=group))
