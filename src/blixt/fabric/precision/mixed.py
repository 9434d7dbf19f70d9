"""Parameters in 32 bit, operations in 16 where that is safe."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch

from blixt.fabric.errors import ConfigError
from blixt.fabric.precision.base import Precision, under

_COMPUTE = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


class MixedPrecision(Precision):
    """torch's autocast.

    Args:
        precision: "16-mixed" (float16 with a scaled loss) or "bf16-mixed".
        device: Taken for those who come from Lightning; the device is asked for when it is known.
        scaler: A gradient scaler with settings of your own, for "16-mixed".

    Raises:
        ConfigError: For another name, or a scaler with "bf16-mixed".
    """

    def __init__(
        self,
        precision: Literal["16-mixed", "bf16-mixed"],
        device: str | torch.device | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        if precision not in _COMPUTE:
            raise ConfigError(
                "MixedPrecision(precision)", precision, "it mixes nothing", "Use '16-mixed' or 'bf16-mixed'"
            )
        if scaler is not None and precision == "bf16-mixed":
            reason = "gradients in bfloat16 do not underflow"
            raise ConfigError("MixedPrecision(scaler)", scaler, reason, "Leave it out, or use '16-mixed'")
        self.name = precision
        self.compute_dtype = self.param_dtype = _COMPUTE[precision]
        self.reduce_dtype = self.output_dtype = torch.float32
        self.scales_loss = precision == "16-mixed"
        self._scaler = scaler

    @property
    def input_dtype(self) -> torch.dtype:
        """32 bit, from which autocast goes down where that is safe."""
        return torch.float32

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """torch's autocast for this type of device."""
        return torch.autocast(device.type, dtype=self.compute_dtype)

    def make_scaler(self, device: torch.device) -> torch.amp.GradScaler | None:
        """The scaler that was given, else a new one, for "16-mixed"."""
        if not self.scales_loss:
            return None
        return self._scaler if self._scaler is not None else torch.amp.GradScaler(device.type)

    def wrap(self, fn: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
        """`fn` under autocast."""
        return under(self.autocast(device), fn)
