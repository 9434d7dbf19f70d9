"""One logged name: its options, its last value and what its epoch value is made of."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from blixt.fabric import ConfigError

Reduction = Literal["mean", "sum", "min", "max"]
Pair = tuple[float, float]
"""(weighted sum, sum of weights) under "mean", else (reduced value, weight); weight 0: nothing was seen."""

_FOLD_AFTER = 128


@dataclass(frozen=True)
class Options:
    """What the user said about a name when logging it, with the hook's defaults filled in.

    Attributes:
        sync_dist: Whether values are reduced over the ranks; None leaves it at epoch values only.
        group: The process group to reduce over; None for all ranks.
    """

    prog_bar: bool
    logger: bool
    on_step: bool
    on_epoch: bool
    reduce_fx: Reduction
    enable_graph: bool
    sync_dist: bool | None
    group: Any
    rank_zero_only: bool

    @property
    def shares_steps(self) -> bool:
        """Whether step values are reduced over the ranks."""
        return self.sync_dist is True and not self.rank_zero_only

    @property
    def shares_epochs(self) -> bool:
        """Whether epoch values are reduced over the ranks."""
        return self.sync_dist is not False and not self.rank_zero_only


@dataclass(slots=True)
class Slot:
    """Numbers on the host are counted at once, in float64; tensors elsewhere wait to share a kernel.

    Attributes:
        key: (hook, loader, name), under which `log` finds the slot.
        step_key: Name of the step value.
        epoch_key: Name of the epoch value.
        bare_key: Name under which callbacks find either.
        given: The arguments of the first call, to be compared with later ones.
        metric: The torchmetrics object that was logged, if it was one.
        attribute: Where the module holds it.
        last: The newest value: a number, or a tensor away from the host.
        last_weight: Its weight.
        weighs: Whether values are weighted by the size of their batch.
        counts: Whether values count into an epoch value.
        plain: Whether values are numbers, and neither metrics nor parts of a graph.
        fresh: Whether `last` came after the last row for the loggers.
        shared: Whether `last` has been reduced over the ranks.
        dirty: Whether anything came since the epoch value was computed.
        result: The epoch value that was computed last.
        total: Weighted sum, or the extreme, of the host's numbers.
        weight: Sum of their weights.
    """

    key: tuple[str, int, str]
    step_key: str
    epoch_key: str
    bare_key: str
    options: Options
    given: tuple[Any, ...]
    metric: Any = None
    attribute: str | None = None
    last: Any = None
    last_weight: Any = 1
    weighs: bool = False
    counts: bool = False
    plain: bool = False
    fresh: bool = False
    shared: bool = False
    dirty: bool = False
    result: float | None = None
    total: float | None = None
    weight: float = 0.0
    _values: list[torch.Tensor] = field(default_factory=list[torch.Tensor])
    _weights: list[Any] = field(default_factory=list[Any])
    _away: torch.Tensor | None = None

    def settle(self) -> None:
        """Note what options and metric mean for each value, after they were set."""
        self.counts = self.options.on_epoch
        self.plain = self.metric is None and not self.options.enable_graph

    def add(self, value: Any, weight: Any) -> None:
        """Count `value`, a number or a tensor of one element, into the epoch value."""
        self.dirty = True
        if isinstance(value, torch.Tensor) or isinstance(weight, torch.Tensor):
            self._values.append(torch.as_tensor(value))
            self._weights.append(weight)
            if len(self._values) >= _FOLD_AFTER:
                self._fold()
            return
        kind = self.options.reduce_fx
        if self.total is None:
            self.total = value * weight if kind == "mean" else value
        elif kind == "mean":
            self.total += value * weight
        elif kind == "sum":
            self.total += value
        else:
            self.total = _extreme(kind, self.total, value)
        self.weight += weight

    def _fold(self) -> None:
        """Bring the tensors that wait into one pair (total, weight) on their device."""
        device = next((v.device for v in self._values if v.device.type != "cpu"), self._values[0].device)
        dtype = torch.float32 if device.type == "mps" else torch.float64
        column = torch.stack([v.detach().to(device, dtype).reshape(()) for v in self._values])
        weights = torch.stack([torch.as_tensor(w, dtype=dtype, device=device) for w in self._weights])
        kind = self.options.reduce_fx
        part = column @ weights if kind == "mean" else _reduce(kind, column)
        if self._away is not None:
            before = self._away[0]
            part = part + before if kind in ("mean", "sum") else _reduce(kind, torch.stack([part, before]))
            weights = torch.cat([weights, self._away[1:]])
        self._away = torch.stack([part, weights.sum()])
        self._values.clear()
        self._weights.clear()

    def away(self) -> torch.Tensor | None:
        """The pair of what is away from the host, as a tensor of two elements there."""
        if self._values:
            self._fold()
        return self._away

    def pair(self, away: list[float] | None) -> Pair:
        """Everything counted so far; `away` is what `away` gave, brought to the host."""
        here = (self.total, self.weight) if self.total is not None else (0.0, 0.0)
        return merge(self.options.reduce_fx, [here, (0.0, 0.0) if away is None else (away[0], away[1])])

    def load(self, pair: Pair) -> None:
        """Go on counting from `pair`."""
        self.total, self.weight = pair
        self.dirty = True

    def reset(self) -> None:
        """Begin a new epoch."""
        self._values.clear()
        self._weights.clear()
        self.total, self.weight, self._away = None, 0.0, None
        self.last, self.fresh, self.dirty, self.result = None, False, False, None
        if self.metric is not None:
            self.metric.reset()


def merge(kind: Reduction, pairs: list[Pair]) -> Pair:
    """Several pairs as one; those of weight 0 have seen nothing."""
    seen = [pair for pair in pairs if pair[1] > 0]
    if not seen:
        return (0.0, 0.0)
    totals, weight = [total for total, _ in seen], sum(weight for _, weight in seen)
    if kind in ("mean", "sum"):
        return (sum(totals), weight)
    result = totals[0]
    for total in totals[1:]:
        result = _extreme(kind, result, total)
    return (result, weight)


def finish(kind: Reduction, pairs: list[Pair]) -> float:
    """One number from the pairs of all ranks; NaN when none of them has seen anything."""
    total, weight = merge(kind, pairs)
    if weight == 0:
        return float("nan")
    return total / weight if kind == "mean" else total


def _extreme(kind: Reduction, one: float, other: float) -> float:
    """The smaller or larger; NaN wins, as in torch, so that it does not hide."""
    if one != one or other != other:
        return float("nan")
    return min(one, other) if kind == "min" else max(one, other)


def _reduce(kind: Reduction, column: torch.Tensor) -> torch.Tensor:
    return {"sum": torch.sum, "min": torch.min, "max": torch.max}[kind](column)


def reduction(reduce_fx: Any) -> Reduction:
    """The name of a reduction given by name or as torch's or Python's function.

    Raises:
        ConfigError: For anything but mean, sum, min and max.
    """
    name = reduce_fx if isinstance(reduce_fx, str) else getattr(reduce_fx, "__name__", "")
    name = {"avg": "mean"}.get(name.lower(), name.lower())
    if name in ("mean", "sum", "min", "max") and (
        isinstance(reduce_fx, str) or reduce_fx in (getattr(torch, name), sum, min, max)
    ):
        return name
    raise ConfigError(
        "log(reduce_fx)",
        reduce_fx,
        "an epoch value needs a known reduction",
        "Use mean, sum, min or max, or log a torchmetrics Metric that reduces in its own way",
    )
