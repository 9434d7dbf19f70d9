"""Types of optimizers and schedulers as arguments, and how the two come together in a module."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jsonargparse import Namespace
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class ReduceLROnPlateau(torch.optim.lr_scheduler.ReduceLROnPlateau):
    """torch's scheduler with the metric that it watches as an argument.

    Args:
        optimizer: Whose learning rate is reduced.
        monitor: The metric.
        args: Further arguments of torch's.
        kwargs: Further arguments of torch's.
    """

    def __init__(self, optimizer: Optimizer, monitor: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(optimizer, *args, **kwargs)
        self.monitor = monitor


LRSchedulerTypeTuple = (LRScheduler, ReduceLROnPlateau)
LRSchedulerTypeUnion = LRScheduler | ReduceLROnPlateau
ArgsType = list[str] | dict[str, Any] | Namespace | None
OptimizerCallable = Callable[[Iterable[Any]], Optimizer]
"""Type of an argument that makes the optimizer from parameters."""
LRSchedulerCallable = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]
"""Type of an argument that makes the scheduler from an optimizer."""


def configured(optimizer: Optimizer, lr_scheduler: LRScheduler | None) -> Any:
    """What `configure_optimizers` returns for the two."""
    if lr_scheduler is None:
        return optimizer
    if isinstance(lr_scheduler, ReduceLROnPlateau):
        schedule = {"scheduler": lr_scheduler, "monitor": lr_scheduler.monitor}
        return {"optimizer": optimizer, "lr_scheduler": schedule}
    return [optimizer], [lr_scheduler]
