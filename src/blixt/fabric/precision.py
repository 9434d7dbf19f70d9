"""In which number format parameters are kept and operations are computed."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch

from blixt.fabric.errors import ConfigError, nearest
from blixt.fabric.tree import map_tensors

PrecisionName = Literal["32", "32-true", "bf16-mixed", "bf16", "16-mixed", "16", 32, 16]


@dataclass(frozen=True)
class Precision:
    """A policy: parameters stay in 32 bit, operations run in `compute_dtype` where that is safe.

    Attributes:
        name: The canonical name, such as "bf16-mixed".
        compute_dtype: Autocast type, or None when nothing is cast.
        scales_loss: Whether gradients would underflow without a scaled loss (16-bit floats).
    """

    name: str
    compute_dtype: torch.dtype | None
    scales_loss: bool = False

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """A fresh context in which operations run in `compute_dtype`."""
        if self.compute_dtype is None:
            return nullcontext()
        return torch.autocast(device.type, dtype=self.compute_dtype)

    def make_scaler(self, device: torch.device) -> torch.amp.GradScaler | None:
        """The scaler this policy needs, or None."""
        return torch.amp.GradScaler(device.type) if self.scales_loss else None

    def wrap(self, fn: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
        """`fn` under autocast; `fn` itself when there is nothing to cast."""
        if self.compute_dtype is None:
            return fn
        context = torch.autocast(device.type, dtype=self.compute_dtype)

        def under_autocast(*args: Any, **kwargs: Any) -> Any:
            with context:
                return fn(*args, **kwargs)

        return under_autocast

    def restore_output(self, output: Any) -> Any:
        """Half-precision tensors of `output` as 32 bit, so that losses outside the model are exact."""
        half = self.compute_dtype
        return map_tensors(output, lambda t: t.float() if t.dtype == half else t)


_POLICIES = {
    "32-true": Precision("32-true", None),
    "bf16-mixed": Precision("bf16-mixed", torch.bfloat16),
    "16-mixed": Precision("16-mixed", torch.float16, scales_loss=True),
}
_ALIASES = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed", "fp32": "32-true", "fp16": "16-mixed"}


def resolve_precision(name: str | int) -> Precision:
    """The policy called `name`, by its canonical name or an alias such as 32, "16" or "bf16"."""
    key = str(name)
    policy = _POLICIES.get(_ALIASES.get(key, key))
    if policy is None:
        hint = nearest(key, _POLICIES).rstrip("?")
        raise ConfigError("precision", name, "there is no such precision", hint)
    return policy
