"""What a precision policy decides: how numbers are kept, computed, sent and given back."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

import torch
from torch import nn

from blixt.fabric.tree import map_tensors


class Precision:
    """Full precision, and the base of every other policy.

    A policy never sees the loop: Fabric and Trainer ask it before the first step for what to run each step.

    Attributes:
        name: The canonical name, such as "bf16-mixed".
        storage_dtype: In what parameters are kept, or None for what they are.
        compute_dtype: In what operations run, or None for the type of their inputs.
        param_dtype: As what a sharded strategy gathers parameters for the forward pass; None for as stored.
        reduce_dtype: In what a sharded strategy reduces gradients; None for the type of the gradients.
        output_dtype: To what a sharded strategy casts outputs of the whole model; None for none.
        scales_loss: Whether gradients would underflow without a scaled loss (16-bit floats).
    """

    name: str = "32-true"
    storage_dtype: torch.dtype | None = None
    compute_dtype: torch.dtype | None = None
    param_dtype: torch.dtype | None = None
    reduce_dtype: torch.dtype | None = None
    output_dtype: torch.dtype | None = None
    scales_loss: bool = False

    @property
    def precision(self) -> str:
        """The name, as Lightning's plug-ins call it."""
        return self.name

    @property
    def input_dtype(self) -> torch.dtype | None:
        """To what floating-point inputs are cast before the forward pass; None for not at all."""
        return self.storage_dtype

    @property
    def converts_input(self) -> bool:
        """Whether `convert_input` does anything."""
        return self.input_dtype is not None

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """A fresh context in which code computes as the forward pass does."""
        return nullcontext()

    def make_scaler(self, device: torch.device) -> torch.amp.GradScaler | None:
        """The gradient scaler that this policy needs, or None."""
        return None

    def wrap(self, fn: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
        """`fn` under `autocast`; `fn` itself where that would do nothing."""
        return fn

    def convert_module(self, module: nn.Module) -> nn.Module:
        """The module as this policy wants it: parameters of another type, layers replaced.

        Called once, before the module is moved or shared. Parameters stay the same objects unless the
        policy replaces layers and says so.
        """
        return module

    def convert_input(self, data: Any) -> Any:
        """`data` with its floating-point tensors as the forward pass wants them."""
        dtype = self.input_dtype
        if dtype is None:
            return data
        return map_tensors(data, lambda t: t.to(dtype) if t.is_floating_point() else t)

    def restore_output(self, output: Any) -> Any:
        """`output` with tensors of this policy's own type as torch's default type.

        So losses and metrics that are computed outside of the model are computed in full.
        """
        own = self.compute_dtype
        if own is None:
            return output
        default = torch.get_default_dtype()
        return map_tensors(output, lambda t: t.to(default) if t.dtype == own else t)

    def init_context(self) -> AbstractContextManager[Any]:
        """Around the making of a module or tensor, so that it is made as it will be kept."""
        return nullcontext()

    def tensor_context(self) -> AbstractContextManager[Any]:
        """Around the making of a tensor, so that it is made in the type that modules take."""
        return self.init_context()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class default_dtype:
    """A context in which new floating-point tensors have this type; it may be entered again while inside."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._before: list[torch.dtype] = []

    def __enter__(self) -> None:
        self._before.append(torch.get_default_dtype())
        torch.set_default_dtype(self._dtype)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        torch.set_default_dtype(self._before.pop())


def under(context: AbstractContextManager[Any], fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` inside `context`, which must bear being entered again."""

    def inside(*args: Any, **kwargs: Any) -> Any:
        with context:
            return fn(*args, **kwargs)

    return inside
