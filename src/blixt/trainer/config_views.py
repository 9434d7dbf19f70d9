"""The trainer's arguments as attributes; those that may change between runs can be set."""

from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar, overload

from blixt.trainer.config import Limit, TrainerConfig, at_least, limit

T = TypeVar("T")


class Setting(Generic[T]):
    """An attribute of the trainer that is one of its config's.

    Args:
        check: Called with name and new value; returns the value to keep, or raises.
        doc: What it means.
    """

    def __init__(self, check: Callable[[str, Any], T], doc: str) -> None:
        self._check = check
        self._name = ""
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, trainer: None, owner: type) -> "Setting[T]": ...
    @overload
    def __get__(self, trainer: "ConfigViews", owner: type) -> T: ...
    def __get__(self, trainer: "ConfigViews | None", owner: type) -> "Setting[T] | T":
        return self if trainer is None else getattr(trainer.config, self._name)

    def __set__(self, trainer: "ConfigViews", value: T) -> None:
        setattr(trainer.config, self._name, self._check(self._name, value))


def _whole(minimum: int) -> Callable[[str, Any], int]:
    return lambda name, value: at_least(name, value, minimum)


def _any(name: str, value: Any) -> Any:
    return value


def _epochs_or_none(name: str, value: Any) -> int | None:
    return None if value is None else at_least(name, value, 1)


class ConfigViews:
    """What a trainer was told, see `Trainer`.

    Attributes:
        config: Every argument that is not about devices.
    """

    config: TrainerConfig

    limit_train_batches = Setting[Limit](limit, "Of an epoch: a number, or a part.")
    limit_val_batches = Setting[Limit](limit, "Of each validation loader.")
    limit_test_batches = Setting[Limit](limit, "Of each test loader.")
    limit_predict_batches = Setting[Limit](limit, "Of each predict loader.")
    overfit_batches = Setting[Limit](limit, "How much of the data to overfit on.")
    val_check_interval = Setting[Limit](_any, "Validate after so many batches, or a part of an epoch.")
    check_val_every_n_epoch = Setting[int | None](_epochs_or_none, "Validate in every so many epochs.")
    log_every_n_steps = Setting[int](_whole(0), "Optimizer steps between rows for the loggers.")
    accumulate_grad_batches = Setting[int](_whole(1), "Batches to an optimizer step; from the next epoch on.")
    gradient_clip_val = Setting[float | None](_any, "Bound on gradients.")
    gradient_clip_algorithm = Setting[Literal["norm", "value"]](_any, "How they are clipped.")
    reload_dataloaders_every_n_epochs = Setting[int](_whole(0), "Make loaders anew every so many epochs.")
    enable_autolog_hparams = Setting[bool](_any, "Send hyperparameters to the loggers.")

    @property
    def num_sanity_val_steps(self) -> int | float:
        """Validation batches before training; infinite for all."""
        steps = self.config.num_sanity_val_steps
        return float("inf") if steps == -1 else steps

    @num_sanity_val_steps.setter
    def num_sanity_val_steps(self, steps: int | float) -> None:
        self.config.num_sanity_val_steps = -1 if steps == float("inf") else int(steps)

    @property
    def fast_dev_run(self) -> int | bool:
        """How many batches of everything run for a look; False when all do, True for one."""
        batches = self.config.fast_dev_run
        return batches if batches > 1 else bool(batches)

    @property
    def barebones(self) -> bool:
        """Whether everything that costs time is off."""
        return self.config.barebones

    @property
    def max_epochs(self) -> int:
        """-1 for no limit; change it through `fit_loop.max_epochs`."""
        return self.config.max_epochs

    @property
    def max_steps(self) -> int:
        """-1 for no limit; change it through `fit_loop.epoch_loop.max_steps`."""
        return self.config.max_steps

    @property
    def min_epochs(self) -> int:
        """Epochs that run whatever wants to stop."""
        return self.config.min_epochs

    @property
    def min_steps(self) -> int | None:
        """Optimizer steps that are made whatever wants to stop; None for no such limit."""
        return self.config.min_steps or None
