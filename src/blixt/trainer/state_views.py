"""What a trainer is doing now."""

from typing import Literal

from blixt.trainer.state import RunningStage, TrainerState, TrainerStatus

Stage = Literal["fit", "validate", "test", "predict"]


class StateViews:
    """Questions about `state`; the flags can be set, as the loops do.

    Attributes:
        state: What the trainer does, and how its last call ended.
    """

    state: TrainerState

    @property
    def stage(self) -> Stage | None:
        """Which of its methods runs; None between calls."""
        fn = self.state.fn
        running = self.state.status is TrainerStatus.RUNNING
        return fn.value if fn is not None and running else None

    @property
    def interrupted(self) -> bool:
        """Whether the last call ended early: by an error, Ctrl-C or a signal."""
        return self.state.status is TrainerStatus.INTERRUPTED

    @property
    def training(self) -> bool:
        """Whether a fit runs, outside of its validations."""
        return self.state.stage is RunningStage.TRAINING

    @training.setter
    def training(self, value: bool) -> None:
        self._set_stage(RunningStage.TRAINING, value)

    @property
    def validating(self) -> bool:
        """Whether a validation runs, within a fit or on its own; the sanity check is none."""
        return self.state.stage is RunningStage.VALIDATING

    @validating.setter
    def validating(self, value: bool) -> None:
        self._set_stage(RunningStage.VALIDATING, value)

    @property
    def testing(self) -> bool:
        """Whether a test runs."""
        return self.state.stage is RunningStage.TESTING

    @testing.setter
    def testing(self, value: bool) -> None:
        self._set_stage(RunningStage.TESTING, value)

    @property
    def predicting(self) -> bool:
        """Whether a prediction runs."""
        return self.state.stage is RunningStage.PREDICTING

    @predicting.setter
    def predicting(self, value: bool) -> None:
        self._set_stage(RunningStage.PREDICTING, value)

    @property
    def sanity_checking(self) -> bool:
        """Whether the validation before training runs."""
        return self.state.stage is RunningStage.SANITY_CHECKING

    @sanity_checking.setter
    def sanity_checking(self, value: bool) -> None:
        self._set_stage(RunningStage.SANITY_CHECKING, value)

    @property
    def evaluating(self) -> bool:
        """Whether a validation, a sanity check or a test runs."""
        return self.state.stage is not None and self.state.stage.evaluating

    def _set_stage(self, stage: RunningStage, value: bool) -> None:
        if value:
            self.state.stage = stage
        elif self.state.stage is stage:
            self.state.stage = None
