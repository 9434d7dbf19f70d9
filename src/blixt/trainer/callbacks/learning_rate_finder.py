"""Find the learning rate when a fit begins."""

from typing import TYPE_CHECKING

from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer
    from blixt.trainer.tuner_lr import LRFinder, Mode


class LearningRateFinder(Callback):
    """Does what `Tuner.lr_find` does, in the fit itself.

    Derive from it and call `lr_find` in another hook to search again later.

    Args:
        min_lr: First learning rate.
        max_lr: Last learning rate.
        num_training_steps: Optimizer steps.
        mode: How it grows: "exponential" or "linear".
        early_stop_threshold: Stop when the loss is so many times the best; None for never.
        update_attr: Set the suggestion, as the model's attribute and in its optimizers.
        attr_name: The attribute's name, if it is neither `lr` nor `learning_rate`.

    Attributes:
        optimal_lr: What was found; None before.
    """

    def __init__(
        self,
        min_lr: float = 1e-8,
        max_lr: float = 1.0,
        num_training_steps: int = 100,
        mode: "Mode" = "exponential",
        early_stop_threshold: float | None = 4.0,
        update_attr: bool = True,
        attr_name: str = "",
    ) -> None:
        from blixt.trainer.tuner import check_range

        check_range(min_lr, max_lr, num_training_steps, mode)
        self._range = (min_lr, max_lr)
        self._steps = num_training_steps
        self._mode: Mode = mode
        self._threshold = early_stop_threshold
        self._update = update_attr
        self._name = attr_name
        self.optimal_lr: LRFinder | None = None

    def on_fit_start(self, trainer: "Trainer", module: "Module") -> None:
        """Search."""
        self.lr_find(trainer, module)

    def lr_find(self, trainer: "Trainer", module: "Module") -> None:
        """Search now, and go on with what was found."""
        from blixt.trainer.tuner_attributes import learning_rate_name, set_number
        from blixt.trainer.tuner_lr import LRFinder, range_test

        if trainer.config.fast_dev_run:
            return
        name = learning_rate_name(module, self._name) if self._update else ""
        finder = LRFinder(self._mode, *self._range, self._steps)
        loaders = {"train_dataloaders": trainer.given_loaders("train")}
        range_test(trainer, module, loaders, trainer.datamodule, finder, self._threshold)
        self.optimal_lr = finder
        found = finder.suggestion() if self._update else None
        if found is not None:
            set_number([module], name, found)
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = found
                    if "initial_lr" in group:
                        group["initial_lr"] = found
            trainer.print(f"Learning rate set to {found:g}.")
