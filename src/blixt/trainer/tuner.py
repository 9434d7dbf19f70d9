"""Find a learning rate and a batch size before training."""

from typing import TYPE_CHECKING, Any

from blixt.fabric import ConfigError
from blixt.trainer.datamodule import DataModule
from blixt.trainer.tuner_attributes import learning_rate_name, set_number
from blixt.trainer.tuner_batch import Stage, find_batch_size
from blixt.trainer.tuner_lr import LRFinder, Mode, range_test

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


class Tuner:
    """Tries things with a trainer's devices and configuration, on the side.

    Trainer, weights and random numbers are afterwards as they were before; only the number that was looked
    for is set.

    Args:
        trainer: On which to try.
    """

    def __init__(self, trainer: "Trainer") -> None:
        self._trainer = trainer

    def lr_find(
        self,
        model: "Module",
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        dataloaders: Any = None,
        datamodule: DataModule | None = None,
        method: str = "fit",
        min_lr: float = 1e-8,
        max_lr: float = 1.0,
        num_training: int = 100,
        mode: Mode = "exponential",
        early_stop_threshold: float | None = 4.0,
        update_attr: bool = True,
        attr_name: str = "",
    ) -> LRFinder | None:
        """Train with a growing learning rate and see when the loss falls fastest.

        Args:
            model: What to train.
            train_dataloaders: Its loader, or a data module; default the module's own.
            val_dataloaders: Not used by a range test.
            dataloaders: Only for other methods than "fit", which a range test does not have.
            datamodule: Where the loader comes from.
            method: Always "fit".
            min_lr: First learning rate.
            max_lr: Last learning rate.
            num_training: Optimizer steps.
            mode: How it grows: "exponential" or "linear".
            early_stop_threshold: Stop when the loss is so many times the best; None for never.
            update_attr: Set the suggestion as `model.lr`, `model.learning_rate` or the same of `hparams`.
            attr_name: The attribute's name, if it is another.

        Returns:
            The losses and a suggestion; None under `fast_dev_run`.

        Raises:
            ConfigError: For values that cannot work, and for a model without such an attribute.
        """
        if method != "fit":
            raise ConfigError("lr_find(method)", method, "only training has a learning rate", "Leave it out")
        if dataloaders is not None:
            reason = "a range test trains"
            raise ConfigError("lr_find(dataloaders)", dataloaders, reason, "Give train_dataloaders")
        check_range(min_lr, max_lr, num_training, mode)
        if self._trainer.config.fast_dev_run:
            self._trainer.print("lr_find is left out under fast_dev_run.")
            return None
        if isinstance(train_dataloaders, DataModule):
            train_dataloaders, datamodule = None, train_dataloaders
        name = learning_rate_name(model, attr_name) if update_attr else ""
        finder = LRFinder(mode, min_lr, max_lr, num_training)
        loaders = {"train_dataloaders": train_dataloaders}
        range_test(self._trainer, model, loaders, datamodule, finder, early_stop_threshold)
        found = finder.suggestion() if update_attr else None
        if found is not None:
            set_number([model], name, found)
            self._trainer.print(f"Learning rate set to {found:g}.")
        return finder

    def scale_batch_size(
        self,
        model: "Module",
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        dataloaders: Any = None,
        datamodule: DataModule | None = None,
        method: Stage = "fit",
        mode: str = "power",
        steps_per_trial: int = 3,
        init_val: int = 2,
        max_trials: int = 25,
        batch_arg_name: str = "batch_size",
        margin: float = 0.05,
        max_val: int = 8192,
    ) -> int | None:
        """Find the largest batch size that fits into memory.

        Loaders have to be made anew for each size, so they come from the model or a data module, whose
        `batch_size`, or `hparams.batch_size`, is set.

        Args:
            model: What runs.
            train_dataloaders: Only a data module makes sense here.
            val_dataloaders: Must be None.
            dataloaders: Must be None, or a data module.
            datamodule: Where loaders come from.
            method: What runs: "fit", "validate", "test" or "predict".
            mode: "power" doubles; "binsearch" then searches between the last two.
            steps_per_trial: Batches of each trial.
            init_val: First size.
            max_trials: Sizes that are tried at most.
            batch_arg_name: The attribute's name.
            margin: Of "binsearch": which part to stay below what was found.
            max_val: The largest size that is tried.

        Returns:
            The size, which is also set; None under `fast_dev_run`.

        Raises:
            ConfigError: For values that cannot work.
            FabricError: When not even one sample fits.
        """
        if isinstance(train_dataloaders, DataModule):
            train_dataloaders, datamodule = None, train_dataloaders
        if isinstance(dataloaders, DataModule):
            dataloaders, datamodule = None, dataloaders
        given = {
            "train_dataloaders": train_dataloaders,
            "val_dataloaders": val_dataloaders,
            "dataloaders": dataloaders,
        }
        for name, value in given.items():
            if value is not None:
                reason = "a loader has one batch size for good"
                fix = "Let the model or a data module make it, with self.batch_size"
                raise ConfigError(f"scale_batch_size({name})", type(value).__name__, reason, fix)
        if self._trainer.config.fast_dev_run:
            self._trainer.print("scale_batch_size is left out under fast_dev_run.")
            return None
        return find_batch_size(
            self._trainer,
            model,
            datamodule,
            method,
            mode,
            steps_per_trial,
            init_val,
            max_trials,
            batch_arg_name,
            margin,
            max_val,
        )


def check_range(min_lr: float, max_lr: float, num_training: int, mode: str) -> None:
    """Refuse a range of learning rates that cannot work."""
    if mode not in ("exponential", "linear"):
        raise ConfigError("lr_find(mode)", mode, "it is unknown", "Use 'exponential' or 'linear'")
    if not 0 < min_lr < max_lr:
        reason = f"it has to be positive and less than max_lr={max_lr:g}"
        raise ConfigError("lr_find(min_lr)", min_lr, reason, "Use e.g. 1e-8 and 1.0")
    if num_training < 1:
        raise ConfigError("lr_find(num_training)", num_training, "it counts steps", "Use e.g. 100")
