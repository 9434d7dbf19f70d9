"""The names that type hints in users' code use."""

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NotRequired, Protocol, TypedDict, TypeVar, runtime_checkable

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from blixt.trainer import SchedulerConfig

STEP_OUTPUT = Tensor | Mapping[str, Any] | None
"""What a step may return."""
EVAL_DATALOADERS = Any
TRAIN_DATALOADERS = Any
LRSchedulerTypeTuple = (LRScheduler, ReduceLROnPlateau)
LRSchedulerTypeUnion = LRScheduler | ReduceLROnPlateau
LRSchedulerPLType = LRScheduler | ReduceLROnPlateau
_PATH = str | os.PathLike[str]
_DEVICE = torch.device | str | int
_MAP_LOCATION_TYPE = _DEVICE | Callable[[Any, str], Any] | dict[_DEVICE, _DEVICE] | None
ArgsType = list[str] | dict[str, Any] | None
"""What a command line object accepts in the place of `sys.argv`."""


class LRSchedulerConfigType(TypedDict):
    """A scheduler with when it steps, as `configure_optimizers` may return it."""

    scheduler: LRSchedulerTypeUnion
    name: NotRequired[str | None]
    interval: NotRequired[str]
    frequency: NotRequired[int]
    reduce_on_plateau: NotRequired[bool]
    monitor: NotRequired[str | None]
    strict: NotRequired[bool]


class OptimizerConfig(TypedDict):
    """One optimizer, as a dict."""

    optimizer: Optimizer


class OptimizerLRSchedulerConfig(TypedDict):
    """One optimizer with its scheduler, as a dict."""

    optimizer: Optimizer
    lr_scheduler: LRSchedulerTypeUnion | LRSchedulerConfigType | SchedulerConfig
    monitor: NotRequired[str]


OptimizerLRScheduler = (
    Optimizer
    | Sequence[Optimizer]
    | tuple[Sequence[Optimizer], Sequence[LRSchedulerTypeUnion | SchedulerConfig]]
    | OptimizerConfig
    | OptimizerLRSchedulerConfig
    | Sequence[OptimizerConfig]
    | Sequence[OptimizerLRSchedulerConfig]
    | None
)
"""What `configure_optimizers` may return."""

TBroadcast = TypeVar("TBroadcast")
TReduce = TypeVar("TReduce")


@runtime_checkable
class CollectibleGroup(Protocol):
    """Processes that can be told apart."""

    def size(self) -> int:
        """How many."""
        ...

    def rank(self) -> int:
        """Which one this is."""
        ...


@runtime_checkable
class Steppable(Protocol):
    """Whatever steps as an optimizer does."""

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step."""
        ...


@runtime_checkable
class Optimizable(Steppable, Protocol):
    """Whatever has an optimizer's surface."""

    param_groups: list[dict[Any, Any]]
    defaults: dict[Any, Any]
    state: defaultdict[Tensor, Any]

    def state_dict(self) -> dict[str, dict[Any, Any]]:
        """What to keep."""
        ...

    def load_state_dict(self, state_dict: dict[str, dict[Any, Any]]) -> None:
        """Take it back."""
        ...
