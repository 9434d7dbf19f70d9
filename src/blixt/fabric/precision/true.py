"""Parameters and operations in one type other than 32 bit."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import nn

from blixt.fabric.errors import ConfigError
from blixt.fabric.precision.base import Precision, default_dtype, under


class TruePrecision(Precision):
    """Everything in one floating-point type: half or twice the memory of 32 bit.

    Args:
        name: Of the policy.
        dtype: In which parameters are kept and operations run.
    """

    def __init__(self, name: str, dtype: torch.dtype) -> None:
        self.name = name
        self.dtype = dtype
        self.storage_dtype = self.compute_dtype = self.param_dtype = dtype

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """New tensors have the policy's type."""
        return default_dtype(self.dtype)

    def wrap(self, fn: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
        """`fn`, with tensors it makes in the policy's type."""
        return under(default_dtype(self.dtype), fn)

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Floating-point parameters and buffers cast in place."""
        return module.to(self.dtype)

    def init_context(self) -> AbstractContextManager[Any]:
        """Parameters are made in the policy's type at once."""
        return default_dtype(self.dtype)


class HalfPrecision(TruePrecision):
    """16 bit throughout; "bf16-true" trains, "16-true" is mostly for inference.

    Args:
        precision: "16-true" or "bf16-true".
    """

    def __init__(self, precision: Literal["bf16-true", "16-true"] = "16-true") -> None:
        types = {"16-true": torch.float16, "bf16-true": torch.bfloat16}
        if precision not in types:
            raise ConfigError(
                "HalfPrecision(precision)", precision, "it is no half", "Use '16-true' or 'bf16-true'"
            )
        super().__init__(precision, types[precision])


class DoublePrecision(TruePrecision):
    """64 bit throughout."""

    def __init__(self) -> None:
        super().__init__("64-true", torch.float64)
