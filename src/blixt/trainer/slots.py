"""One logged name: its options, its last value and what its epoch value is made of."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from blixt.fabric import ConfigError

Reduction = Literal["mean", "sum", "min", "max"]
_FOLD_AFTER = 128


@dataclass(frozen=True)
class Options:
    """What the user said about a name when logging it."""

    prog_bar: bool
    logger: bool
    on_step: bool
    on_epoch: bool
    reduce_fx: Reduction
    sync_dist: bool
    rank_zero_only: bool


@dataclass(slots=True)
class Slot:
    """Values are only appended while batches run; arithmetic waits until it is worth a tensor operation.

    Attributes:
        step_key: Name of the step value.
        epoch_key: Name of the epoch value.
        bare_key: Name under which callbacks find either.
        given: The arguments of the first call, to be compared with later ones.
        last: The newest value.
        fresh: Whether `last` came after the last row for the loggers.
        total: Weighted sum, or the extreme, of the values folded so far.
        weight: Sum of the weights folded so far.
    """

    step_key: str
    epoch_key: str
    bare_key: str
    options: Options
    given: tuple[Any, ...]
    last: Any = None
    fresh: bool = False
    metric: Any = None
    values: list[Any] = field(default_factory=list[Any])
    weights: list[float] = field(default_factory=list[float])
    total: Any = None
    weight: float = 0.0

    def add(self, value: Any, weight: float) -> None:
        """Count `value` into the epoch value."""
        self.values.append(value)
        self.weights.append(weight)
        if len(self.values) >= _FOLD_AFTER:
            self.fold()

    def fold(self) -> None:
        """Bring the appended values into `total` and `weight`."""
        if not self.values:
            return
        first = next((value for value in self.values if isinstance(value, torch.Tensor)), None)
        device = first.device if first is not None else torch.device("cpu")
        dtype = torch.float32 if device.type == "mps" else torch.float64
        column = torch.stack(
            [torch.as_tensor(v, dtype=dtype, device=device).reshape(()) for v in self.values]
        )
        kind = self.options.reduce_fx
        if kind == "mean":
            part = column @ torch.tensor(self.weights, dtype=dtype, device=device)
        else:
            part = {"sum": torch.sum, "min": torch.min, "max": torch.max}[kind](column)
        if self.total is None:
            self.total = part
        elif kind in ("mean", "sum"):
            self.total = self.total + part
        else:
            self.total = {"min": torch.minimum, "max": torch.maximum}[kind](self.total, part)
        self.weight += sum(self.weights)
        self.values.clear()
        self.weights.clear()

    def reset(self) -> None:
        """Begin a new epoch."""
        self.values.clear()
        self.weights.clear()
        self.total, self.weight, self.last, self.fresh = None, 0.0, None, False
        if self.metric is not None:
            self.metric.reset()


def combine(kind: Reduction, totals: list[float], weights: list[float]) -> float:
    """One number from the (total, weight) pairs of all ranks; ranks with weight 0 have seen nothing."""
    seen = [(total, weight) for total, weight in zip(totals, weights, strict=True) if weight > 0]
    if not seen:
        return float("nan")
    values = [total for total, _ in seen]
    if kind == "mean":
        return sum(values) / sum(weight for _, weight in seen)
    return {"sum": sum, "min": min, "max": max}[kind](values)


def reduction(reduce_fx: Any) -> Reduction:
    """The name of a reduction given by name or as torch's function."""
    name = reduce_fx if isinstance(reduce_fx, str) else getattr(reduce_fx, "__name__", "")
    if name in ("mean", "sum", "min", "max"):
        return name
    raise ConfigError(
        "log(reduce_fx)", reduce_fx, "an epoch value needs a known reduction", "Use mean, sum, min or max"
    )
