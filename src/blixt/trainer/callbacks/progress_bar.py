"""What every progress bar knows, and the way to write one of your own."""

from typing import TYPE_CHECKING, Any

from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer

_TITLES = {
    "train": "Training",
    "sanity_check": "Sanity Checking",
    "validate": "Validation",
    "test": "Testing",
    "predict": "Predicting",
}


class ProgressBar(Callback):
    """Base of progress bars; derive from it and draw in the hooks, from the numbers it gives.

    Called itself, `ProgressBar(...)` makes the usual bar, a `TQDMProgressBar`.
    """

    _trainer: "Trainer | None" = None
    _loader: int | None = None

    def __new__(cls, *args: Any, **options: Any) -> "ProgressBar":
        """The usual bar when no particular one is asked for."""
        if cls is ProgressBar:
            from blixt.trainer.callbacks.text_bar import TQDMProgressBar

            return object.__new__(TQDMProgressBar)
        return super().__new__(cls)

    def __getstate__(self) -> dict[str, Any]:
        """Without the trainer, which holds what cannot be pickled; `setup` gives the next one."""
        return {**super().__getstate__(), "_trainer": None}

    def setup(self, trainer: "Trainer", module: "Module", stage: str) -> None:
        """Only rank 0 draws."""
        self._trainer = trainer
        if not trainer.is_global_zero:
            self.disable()

    # --- what to override -------------------------------------------------------------------------

    def disable(self) -> None:
        """Stop drawing."""

    def enable(self) -> None:
        """Draw again."""

    def print(self, *args: Any, **options: Any) -> None:
        """Print without tearing the bar apart."""
        print(*args, **options)

    def get_metrics(self, trainer: "Trainer", pl_module: "Module") -> dict[str, Any]:
        """What stands beside the bar; called only when it is drawn, because it may wait for the device."""
        return {**get_standard_metrics(trainer), **trainer.progress_bar_metrics}

    # --- numbers ----------------------------------------------------------------------------------

    @property
    def trainer(self) -> "Trainer":
        """The trainer whose progress is shown."""
        if self._trainer is None:
            raise TypeError(f"{type(self).__name__} belongs to no trainer yet; give it to one as a callback.")
        return self._trainer

    @property
    def is_disabled(self) -> bool:
        """Whether nothing is drawn."""
        return False

    @property
    def is_enabled(self) -> bool:
        """Whether it draws."""
        return not self.is_disabled

    @property
    def total_train_batches(self) -> int | float:
        """Batches in a training epoch; infinite when nobody knows."""
        return self.trainer.num_training_batches

    @property
    def total_val_batches_current_dataloader(self) -> int | float:
        """Batches of the running validation loader."""
        trainer = self.trainer
        return self._of_current(
            trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        )

    @property
    def total_test_batches_current_dataloader(self) -> int | float:
        """Batches of the running test loader."""
        return self._of_current(self.trainer.num_test_batches)

    @property
    def total_predict_batches_current_dataloader(self) -> int | float:
        """Batches of the running predict loader."""
        return self._of_current(self.trainer.num_predict_batches)

    @property
    def total_val_batches(self) -> int | float:
        """Batches of all validation loaders."""
        return sum(self.trainer.num_val_batches) if self.trainer.enable_validation else 0

    def title(self, stage: str) -> str:
        """What stands before the bar in a stage."""
        return _TITLES.get(stage, stage)

    @property
    def sanity_check_description(self) -> str:
        """What stands before the bar of the sanity check."""
        return self.title("sanity_check")

    @property
    def train_description(self) -> str:
        """What stands before the training bar."""
        return self.title("train")

    @property
    def validation_description(self) -> str:
        """What stands before the validation bar."""
        return self.title("validate")

    @property
    def test_description(self) -> str:
        """What stands before the test bar."""
        return self.title("test")

    @property
    def predict_description(self) -> str:
        """What stands before the predict bar."""
        return self.title("predict")

    def has_dataloader_changed(self, dataloader_idx: int) -> bool:
        """Whether this loader is another one than at the last call."""
        before, self._loader = self._loader, dataloader_idx
        return before != dataloader_idx

    def reset_dataloader_idx_tracker(self) -> None:
        """Forget the loader of `has_dataloader_changed`; call it when a stage ends."""
        self._loader = None

    def _of_current(self, totals: list[int | float]) -> int | float:
        index = self.trainer.logbook.loader
        return totals[index] if index < len(totals) else float("inf")


def get_standard_metrics(trainer: "Trainer") -> dict[str, int | str]:
    """What a bar shows of every run: the logger's version, shortened."""
    version = None if trainer.logger is None else trainer.logger.version
    if version is None or version == "":
        return {}
    return {"v_num": version[-4:] if isinstance(version, str) else version}
