"""Strategies that are made with Lightning's arguments."""

from typing import Any, ClassVar

import torch

from blixt import fabric
from blixt.fabric.strategies.wishes import Wishes

__all__ = ["DDPStrategy", "Mapped", "SingleDeviceStrategy"]

_STARTS = {"popen": None, "spawn": "spawn", "fork": "fork", "forkserver": "forkserver"}


class Mapped(fabric.Strategy):
    """Takes what all of Lightning's strategies take; what it stands for counts as one of it."""

    STANDS_FOR: ClassVar[type[fabric.Strategy] | None] = None

    def __init__(
        self,
        *args: Any,
        accelerator: fabric.Accelerator | None = None,
        parallel_devices: list[torch.device] | None = None,
        cluster_environment: fabric.ClusterEnvironment | None = None,
        precision: fabric.Precision | None = None,
        precision_plugin: fabric.Precision | None = None,
        **options: Any,
    ) -> None:
        if options.pop("model_averaging_period", None) is not None:
            raise fabric.ConfigError(
                f"{type(self).__name__}(model_averaging_period)", "...", "it is not carried", "Leave it out"
            )
        if (timeout := options.pop("timeout", None)) is not None:
            options["timeout_s"] = timeout
        if (start := options.pop("start_method", None)) is not None:
            options["launcher"] = _STARTS.get(start, start)
        super().__init__(*args, **options)
        self.configure(precision=precision or precision_plugin)
        self.wishes = Wishes(accelerator, tuple(parallel_devices or ()), cluster_environment)

    @classmethod
    def __subclasshook__(cls, subclass: type, /) -> Any:
        base = vars(cls).get("STANDS_FOR")
        return True if base is not None and base in subclass.__mro__ else NotImplemented


class SingleDeviceStrategy(Mapped, fabric.SingleDeviceStrategy):
    """blixt's, with Lightning's arguments."""

    STANDS_FOR = fabric.SingleDeviceStrategy


class DDPStrategy(Mapped, fabric.DDPStrategy):
    """blixt's, with Lightning's arguments."""

    STANDS_FOR = fabric.DDPStrategy
