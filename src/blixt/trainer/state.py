"""What a trainer is doing, as enums whose values read like Lightning's."""

from dataclasses import dataclass
from enum import StrEnum


class _Word(StrEnum):
    """Equal to its value, and printed with its name, as Lightning's are."""

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class TrainerStatus(_Word):
    """How far the last call of the trainer has come."""

    INITIALIZING = "initializing"
    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"

    @property
    def stopped(self) -> bool:
        """Whether nothing runs any more."""
        return self in (TrainerStatus.FINISHED, TrainerStatus.INTERRUPTED)


class TrainerFn(_Word):
    """Which method of the trainer was called."""

    FITTING = "fit"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"


class RunningStage(_Word):
    """Which batches run now: a fit trains, validates, and checks its sanity."""

    TRAINING = "train"
    SANITY_CHECKING = "sanity_check"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"

    @property
    def evaluating(self) -> bool:
        """Whether metrics of an evaluation are gathered."""
        return self in (RunningStage.VALIDATING, RunningStage.TESTING, RunningStage.SANITY_CHECKING)

    @property
    def dataloader_prefix(self) -> str | None:
        """The first word of the loader's method; None for the sanity check, which borrows one."""
        words = {
            RunningStage.TRAINING: "train",
            RunningStage.VALIDATING: "val",
            RunningStage.TESTING: "test",
            RunningStage.PREDICTING: "predict",
        }
        return words.get(self)


@dataclass
class TrainerState:
    """What the trainer does now, and how its last call ended.

    Attributes:
        status: How far the last call has come.
        fn: Which method was called last.
        stage: Which batches run; None outside of any.
    """

    status: TrainerStatus = TrainerStatus.INITIALIZING
    fn: TrainerFn | None = None
    stage: RunningStage | None = None

    @property
    def finished(self) -> bool:
        """Whether the last call ended well."""
        return self.status is TrainerStatus.FINISHED

    @property
    def stopped(self) -> bool:
        """Whether the last call ended, well or not."""
        return self.status.stopped
