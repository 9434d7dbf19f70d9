"""Precision for one strategy, as Lightning wants it given; blixt's policies serve every strategy."""

from typing import Any, ClassVar, Literal

import torch

from blixt.fabric import ComposedPrecision, ConfigError, MixedPrecision, nearest
from blixt.fabric.precision import resolve_precision

Name = Literal["32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"]
_NAMES = ("32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed")


class _StrategyPrecision(ComposedPrecision):
    """The policy of a name, under the name of a class."""

    STRATEGY: ClassVar[str]

    def __init__(self, precision: Name, scaler: Any = None) -> None:
        owner = f"{type(self).__name__}(precision)"
        if precision not in _NAMES:
            reason = f"{self.STRATEGY} does not compute so"
            raise ConfigError(owner, precision, reason, nearest(str(precision), _NAMES).rstrip("?"))
        if scaler is not None and precision != "16-mixed":
            reason = f"{precision} scales no loss"
            raise ConfigError(f"{type(self).__name__}(scaler)", scaler, reason, "Leave it out")
        scaled = MixedPrecision("16-mixed", scaler=scaler) if scaler is not None else None
        super().__init__([scaled or resolve_precision(precision)])


class FSDPPrecision(_StrategyPrecision):
    """Number formats for FSDP.

    Args:
        precision: "32-true", "16-true", "bf16-true", "16-mixed" or "bf16-mixed".
        scaler: A gradient scaler with settings of your own, for "16-mixed".
    """

    STRATEGY = "FSDP"

    def __init__(self, precision: Name, scaler: torch.amp.GradScaler | None = None) -> None:
        super().__init__(precision, scaler)


class DeepSpeedPrecision(_StrategyPrecision):
    """Number formats for DeepSpeed, which scales 16-bit losses itself.

    Args:
        precision: "32-true", "16-true", "bf16-true", "16-mixed" or "bf16-mixed".
    """

    STRATEGY = "DeepSpeed"

    def __init__(self, precision: Name) -> None:
        super().__init__(precision)
