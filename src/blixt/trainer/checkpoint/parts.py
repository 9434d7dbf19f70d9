"""What of a trainer a checkpoint is made of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch.optim import Optimizer

from blixt.fabric import Fabric
from blixt.trainer.callback import Callback
from blixt.trainer.datamodule import DataModule
from blixt.trainer.hooks import HookPlan
from blixt.trainer.logbook import Logbook
from blixt.trainer.module import Module
from blixt.trainer.optimizers import SchedulerConfig
from blixt.trainer.progress import Counters


class Batches(Protocol):
    """What gives batches and knows its position."""

    @property
    def delivered(self) -> int:
        """Batches of this epoch that were handed out."""
        ...

    def __iter__(self) -> Iterator[Any]: ...

    def state_dict(self) -> dict[str, Any]:
        """The position."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to a position."""
        ...


class EvaluationLoader(Protocol):
    """A loader of the running fit's validation."""

    @property
    def batches(self) -> Any:
        """Where its batches come from."""
        ...

    @property
    def total(self) -> int | None:
        """How many there will be."""
        ...


@dataclass
class Parts:
    """What of a trainer goes into a checkpoint.

    Attributes:
        fabric: The processes, the strategy, the gradient scaler.
        module: Its weights, hyper parameters and hooks.
        datamodule: Its state and hyper parameters, if there is one.
        callbacks: Their states.
        hooks: Who wants to see the checkpoint.
        counters: How far the run has come.
        optimizers: Their states.
        schedulers: Their states.
        logbook: Means that are half done.
        loader: The training loader, for its position.
        evaluation: The validation loaders of the fit, for their seeds.
    """

    fabric: Fabric
    module: Module
    datamodule: DataModule | None
    callbacks: Sequence[Callback]
    hooks: HookPlan
    counters: Counters
    optimizers: list[Optimizer]
    schedulers: list[SchedulerConfig]
    logbook: Logbook
    loader: Batches | None
    evaluation: Sequence[EvaluationLoader] = ()
