"""The loops' numbers under the names that user programs read: `trainer.fit_loop.epoch_loop.batch_idx`.

These are views: they hold nothing but the trainer, and every number comes from its counters.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blixt.trainer.config import at_least

if TYPE_CHECKING:
    from blixt.trainer.evaluate import Evaluation, Kind
    from blixt.trainer.trainer import Trainer


@dataclass(frozen=True)
class Tracker:
    """How many batches (or epochs) have come how far.

    Attributes:
        ready: Given out, the running one included.
        started: Whose hooks have begun.
        processed: Whose step is done.
        completed: That are over.
    """

    ready: int = 0
    started: int = 0
    processed: int = 0
    completed: int = 0


@dataclass(frozen=True)
class Progress:
    """Progress of this epoch and of the whole run.

    Attributes:
        total: Of the whole run.
        current: Of this epoch.
        is_last_batch: Whether the newest batch is the epoch's last.
    """

    total: Tracker
    current: Tracker
    is_last_batch: bool = False


class _View:
    def __init__(self, trainer: "Trainer") -> None:
        self.trainer = trainer


class FitLoop(_View):
    """`trainer.fit_loop`: epochs, and limits that can be set between fits."""

    @property
    def epoch_loop(self) -> "TrainingEpochLoop":
        """The batches of an epoch."""
        return TrainingEpochLoop(self.trainer)

    @property
    def max_epochs(self) -> int:
        """-1 for no limit."""
        return self.trainer.config.max_epochs

    @max_epochs.setter
    def max_epochs(self, epochs: int | None) -> None:
        self.trainer.config.max_epochs = -1 if epochs is None else at_least("max_epochs", epochs, -1)

    @property
    def min_epochs(self) -> int:
        """Epochs that run whatever wants to stop."""
        return self.trainer.config.min_epochs

    @min_epochs.setter
    def min_epochs(self, epochs: int | None) -> None:
        self.trainer.config.min_epochs = at_least("min_epochs", epochs or 0, 0)

    @property
    def max_steps(self) -> int:
        """-1 for no limit."""
        return self.trainer.config.max_steps

    @property
    def min_steps(self) -> int | None:
        """Optimizer steps that are made whatever wants to stop; None for no such limit."""
        return self.trainer.min_steps

    @property
    def max_batches(self) -> int | float:
        """Batches in an epoch; infinite when nobody knows."""
        return self.trainer.num_training_batches

    @property
    def batch_idx(self) -> int:
        """The running batch of this epoch."""
        return self.epoch_loop.batch_idx

    @property
    def total_batch_idx(self) -> int:
        """The running batch of all epochs."""
        return self.epoch_loop.total_batch_idx

    @property
    def epoch_progress(self) -> Progress:
        """How many epochs have begun and ended."""
        counters = self.trainer.counters
        done = self.trainer.current_epoch
        begun = max(done, counters.epoch + (counters.batch > 0 or self.trainer.training))
        tracker = Tracker(begun, begun, done + counters.epoch_done, done)
        return Progress(tracker, tracker)

    @property
    def done(self) -> bool:
        """Whether a limit on steps or epochs is reached."""
        config, counters = self.trainer.config, self.trainer.counters
        epochs = counters.epoch + counters.epoch_done
        return counters.global_step >= config.max_steps != -1 or epochs >= config.max_epochs != -1

    @property
    def restarting(self) -> bool:
        """Whether the fit went on from a checkpoint."""
        return self.trainer.ckpt_path is not None


class TrainingEpochLoop(_View):
    """`trainer.fit_loop.epoch_loop`: the batches of an epoch."""

    @property
    def val_loop(self) -> "EvaluationLoop":
        """The validation within the fit."""
        return EvaluationLoop(self.trainer, "validation")

    @property
    def batch_idx(self) -> int:
        """The running batch of this epoch; -1 before the first."""
        return self.trainer.batch_index

    @property
    def total_batch_idx(self) -> int:
        """The running batch of all epochs; -1 before the first."""
        return self.trainer.batches_before_epoch + self.trainer.batch_index

    @property
    def global_step(self) -> int:
        """Optimizer steps so far."""
        return self.trainer.counters.global_step

    @property
    def max_steps(self) -> int:
        """-1 for no limit."""
        return self.trainer.config.max_steps

    @max_steps.setter
    def max_steps(self, steps: int) -> None:
        self.trainer.config.max_steps = at_least("max_steps", steps, -1)

    @property
    def min_steps(self) -> int | None:
        """Optimizer steps that are made whatever wants to stop; None for no such limit."""
        return self.trainer.min_steps

    @min_steps.setter
    def min_steps(self, steps: int | None) -> None:
        self.trainer.config.min_steps = at_least("min_steps", steps or 0, 0)

    @property
    def batch_progress(self) -> Progress:
        """How many batches have begun and ended."""
        counters, ready = self.trainer.counters, self.trainer.batch_index + 1
        before = self.trainer.batches_before_epoch
        running = counters.batch == ready - 1 and self.trainer.training
        done = ready - (running or self.trainer.logbook.hook == "on_train_batch_end")
        current = Tracker(ready, ready, ready - running, done)
        total = Tracker(before + ready, before + ready, before + ready - running, before + done)
        return Progress(total, current, self.trainer.is_last_batch)

    @property
    def _batches_that_stepped(self) -> int:
        """What loggers take as the step: the batches after which the weights moved, from 0."""
        return self.trainer.logger_step


class EvaluationLoop(_View):
    """`trainer.validate_loop`, `test_loop`: the batches of an evaluation."""

    def __init__(self, trainer: "Trainer", kind: "Kind") -> None:
        super().__init__(trainer)
        self.kind: Kind = kind

    @property
    def max_batches(self) -> list[int | float]:
        """Batches of each loader; infinite where nobody knows."""
        totals = {
            "validation": self.trainer.num_val_batches,
            "test": self.trainer.num_test_batches,
            "predict": self.trainer.num_predict_batches,
        }
        return totals[self.kind]

    @property
    def num_dataloaders(self) -> int:
        """How many loaders run one after the other."""
        return len(self.max_batches)

    @property
    def inference_mode(self) -> bool:
        """Whether torch's inference mode is used."""
        return self.trainer.config.inference_mode

    @property
    def batch_idx(self) -> int:
        """The running batch of its loader; -1 before the first."""
        evaluation = self._evaluation
        return -1 if evaluation is None else evaluation.index

    @property
    def batch_progress(self) -> Progress:
        """How many batches have begun and ended."""
        evaluation = self._evaluation
        if evaluation is None:
            return Progress(Tracker(), Tracker())
        ready = evaluation.index + 1
        done = ready - evaluation.running
        total = evaluation.total_index + 1
        before = total - evaluation.running
        totals = self.max_batches
        last = bool(totals) and ready >= totals[min(evaluation.loader_index, len(totals) - 1)]
        return Progress(Tracker(total, total, before, before), Tracker(ready, ready, done, done), last)

    @property
    def _evaluation(self) -> "Evaluation | None":
        return self.trainer.evaluation_of(self.kind)


class PredictionLoop(EvaluationLoop):
    """`trainer.predict_loop`: also tells which samples the batches hold, for those who write predictions."""

    @property
    def keep_indices(self) -> bool:
        """Whether the samples of each batch are remembered."""
        return self.trainer.keeps_indices

    @keep_indices.setter
    def keep_indices(self, keep: bool) -> None:
        self.trainer.keeps_indices = keep

    @property
    def predictions(self) -> list[Any]:
        """What the last `predict` returned; [] when it kept nothing."""
        return self.trainer.predictions

    @property
    def current_batch_indices(self) -> list[int] | None:
        """The dataset's indices of the running batch, where the loader knows them."""
        evaluation = self._evaluation
        return None if evaluation is None else evaluation.batch_indices

    @property
    def epoch_batch_indices(self) -> list[list[list[int]]]:
        """Those of every batch so far, by loader."""
        evaluation = self._evaluation
        return [] if evaluation is None else evaluation.epoch_indices
