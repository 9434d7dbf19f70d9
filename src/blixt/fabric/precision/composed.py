"""Several policies as one: quantised layers inside of mixed precision, say."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

from blixt.fabric.errors import ConfigError
from blixt.fabric.precision.base import Precision

T = TypeVar("T")


class ComposedPrecision(Precision):
    """Policies applied one inside of the other, the first outermost.

    The types of the whole are those of the first part that has an opinion.

    Args:
        parts: At least one policy. At most one may scale the loss, and only one may say in what type
            parameters are kept.

    Example:
        >>> from blixt.fabric.precision import resolve_precision
        >>> resolve_precision("bf16-true+float8").name
        'bf16-true+float8'
    """

    def __init__(self, parts: Sequence[Precision]) -> None:
        self.parts = tuple(parts)
        self.name = "+".join(part.name for part in parts)
        _refuse_contradiction(self.parts, "storage_dtype", "keeps parameters in")
        _refuse_contradiction(self.parts, "compute_dtype", "computes in")
        for attribute in ("storage_dtype", "compute_dtype", "param_dtype", "reduce_dtype", "output_dtype"):
            setattr(self, attribute, _first(getattr(part, attribute) for part in self.parts))
        self.scales_loss = any(part.scales_loss for part in self.parts)

    @property
    def input_dtype(self) -> torch.dtype | None:
        """That of the first part that casts its inputs."""
        return _first(part.input_dtype for part in self.parts)

    @contextmanager
    def autocast(self, device: torch.device) -> Generator[None]:
        """All contexts, the first outermost."""
        with ExitStack() as stack:
            for part in self.parts:
                stack.enter_context(part.autocast(device))
            yield

    def make_scaler(self, device: torch.device) -> torch.amp.GradScaler | None:
        """That of the part that scales the loss."""
        return _first(part.make_scaler(device) for part in self.parts)

    def wrap(self, fn: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
        """`fn` inside of every part, the first outermost."""
        for part in reversed(self.parts):
            fn = part.wrap(fn, device)
        return fn

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Converted by every part in order."""
        for part in self.parts:
            module = part.convert_module(module)
        return module

    @contextmanager
    def init_context(self) -> Generator[None]:
        """All contexts, the first outermost."""
        with ExitStack() as stack:
            for part in self.parts:
                stack.enter_context(part.init_context())
            yield

    @contextmanager
    def tensor_context(self) -> Generator[None]:
        """All contexts, the first outermost."""
        with ExitStack() as stack:
            for part in self.parts:
                stack.enter_context(part.tensor_context())
            yield


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)


def _refuse_contradiction(parts: Sequence[Precision], attribute: str, verb: str) -> None:
    opinions = {part.name: getattr(part, attribute) for part in parts if getattr(part, attribute) is not None}
    if len(set(opinions.values())) > 1:
        reason = " and ".join(f"{name} {verb} {dtype}" for name, dtype in opinions.items())
        raise ConfigError("precision", list(opinions), reason, "Keep one of them")
