"""The trainer as a module and a data module see it, in a Trainer and in a Fabric."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from blixt.fabric import Fabric, FabricError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from blixt.trainer.config import TrainerConfig
    from blixt.trainer.hooks import HookPlan
    from blixt.trainer.optimizers import SchedulerConfig


class TrainerView(Protocol):
    """What manual optimisation asks of a trainer."""

    fabric: Fabric
    config: "TrainerConfig"
    optimizers: "list[Optimizer]"
    optimizer_handles: "Sequence[Any]"
    lr_scheduler_configs: "list[SchedulerConfig]"

    @property
    def hooks(self) -> "HookPlan":
        """Which hooks are really there."""
        ...

    def backward(self, loss: "Tensor", *args: Any, **kwargs: Any) -> None:
        """Backward of a manual step, as strategy, precision and the module want it."""
        ...


class FabricAsTrainer:
    """`self.trainer` of a module that runs in a Fabric: what Fabric has answers, the rest says so."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric

    def __getattr__(self, name: str) -> Any:
        if name == "fabric":  # while it is being unpickled
            raise AttributeError(name)
        try:
            return getattr(self.fabric, name)
        except AttributeError:
            raise AttributeError(
                f"self.trainer.{name}: this module runs in a Fabric, which has no {name!r}. "
                "Run it with a Trainer, or keep that value in your loop."
            ) from None


class NotAttachedError(FabricError, RuntimeError):
    """A module or callback was asked for its trainer and has none."""


def not_attached(module: object) -> NotAttachedError:
    """The error for `module.trainer` without a trainer."""
    return NotAttachedError(
        f"{type(module).__qualname__} is not attached to a `Trainer`. Call trainer.fit(module), or set it up "
        "with fabric.setup(module)."
    )
