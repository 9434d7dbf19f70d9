"""Find the batch size when a stage begins."""

from typing import TYPE_CHECKING

from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


class BatchSizeFinder(Callback):
    """Does what `Tuner.scale_batch_size` does, in the run itself.

    Derive from it and call `scale_batch_size` in another hook to search again later.

    Args:
        mode: "power" doubles; "binsearch" then searches between the last two.
        steps_per_trial: Batches of each trial.
        init_val: First size.
        max_trials: Sizes that are tried at most.
        batch_arg_name: The attribute of the model, the data module or their hparams that loaders read.
        margin: Of "binsearch": which part to stay below what was found.
        max_val: The largest size that is tried.

    Attributes:
        optimal_batch_size: What was found; None before.
    """

    def __init__(
        self,
        mode: str = "power",
        steps_per_trial: int = 3,
        init_val: int = 2,
        max_trials: int = 25,
        batch_arg_name: str = "batch_size",
        margin: float = 0.05,
        max_val: int = 8192,
    ) -> None:
        from blixt.trainer.tuner_batch import check

        check(mode, margin, init_val, max_val, max_trials, steps_per_trial)
        self._mode = mode
        self._steps_per_trial = steps_per_trial
        self._init_val = init_val
        self._max_trials = max_trials
        self._name = batch_arg_name
        self._margin = margin
        self._max_val = max_val
        self.optimal_batch_size: int | None = None

    def on_fit_start(self, trainer: "Trainer", module: "Module") -> None:
        """Search before the loaders of the fit are made."""
        self.scale_batch_size(trainer, module)

    def on_validation_start(self, trainer: "Trainer", module: "Module") -> None:
        """Search, if the trainer only validates."""
        if trainer.stage == "validate":
            self.scale_batch_size(trainer, module)

    def on_test_start(self, trainer: "Trainer", module: "Module") -> None:
        """Search."""
        self.scale_batch_size(trainer, module)

    def on_predict_start(self, trainer: "Trainer", module: "Module") -> None:
        """Search."""
        self.scale_batch_size(trainer, module)

    def scale_batch_size(self, trainer: "Trainer", module: "Module") -> None:
        """Search now, and go on with loaders of the size that was found."""
        from blixt.trainer.tuner_batch import find_batch_size

        stage = trainer.stage
        if trainer.config.fast_dev_run or stage is None:
            return
        self.optimal_batch_size = find_batch_size(
            trainer,
            module,
            trainer.datamodule,
            stage,
            self._mode,
            self._steps_per_trial,
            self._init_val,
            self._max_trials,
            self._name,
            self._margin,
            self._max_val,
        )
        trainer.renew_loaders()
