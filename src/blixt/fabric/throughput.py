"""How much is done a second, over a sliding window."""

from collections import deque
from typing import TYPE_CHECKING, Any

import torch

from blixt.fabric.errors import ConfigError
from blixt.fabric.flops import get_available_flops

if TYPE_CHECKING:
    from blixt.fabric.fabric import Fabric


class Throughput:
    """Turns counters into rates.

    `compute` gives `time`, `batches`, `samples` (and `lengths`), as they are, and, once the window is full,
    `device/batches_per_sec`, `device/samples_per_sec`, `device/items_per_sec` (of lengths),
    `device/flops_per_sec`, `device/mfu` (share of the device's peak), and the first four without `device/`
    for all devices together when there are several.

    Args:
        available_flops: What one device could do a second at best; without it there is no `mfu`.
        world_size: Number of devices.
        window_size: How many updates the rates are taken over.
        separator: Between "device" and the name.

    Example:
        >>> throughput = Throughput(window_size=2)
        >>> for step in (1, 2):
        ...     throughput.update(time=0.5 * step, batches=step, samples=8 * step)
        >>> throughput.compute()["device/samples_per_sec"]
        16.0
    """

    def __init__(
        self,
        available_flops: float | None = None,
        world_size: int = 1,
        window_size: int = 100,
        separator: str = "/",
    ) -> None:
        if world_size < 1:
            raise ConfigError("Throughput(world_size)", world_size, "it counts devices", "Use 1 or more")
        if window_size < 2:
            reason = "a rate needs two points in time"
            raise ConfigError("Throughput(window_size)", window_size, reason, "Use 2 or more")
        self.available_flops = available_flops
        self.world_size = world_size
        self.window_size = window_size
        self.separator = separator
        self._counters: dict[str, deque[float]] = {}
        self._flops: deque[float] = deque(maxlen=window_size)

    def update(
        self,
        *,
        time: float,
        batches: int,
        samples: int,
        lengths: int | None = None,
        flops: float | None = None,
    ) -> None:
        """Take the counters as they stand.

        Args:
            time: Seconds since the beginning.
            batches: Of one device since the beginning.
            samples: Likewise.
            lengths: Likewise, such as tokens.
            flops: Of one device since the last update, not since the beginning.

        Raises:
            ConfigError: When a counter does not grow, or batches outnumber samples, or samples lengths.
        """
        if samples < batches:
            raise ConfigError("update(samples)", samples, f"there are {batches} batches", "Count all samples")
        if lengths is not None and lengths < samples:
            raise ConfigError("update(lengths)", lengths, f"there are {samples} samples", "Count all items")
        given = {"time": time, "batches": batches, "samples": samples, "lengths": lengths}
        new = {name: value for name, value in given.items() if value is not None}
        for name, value in new.items():
            window = self._counters.get(name)
            if window and window[-1] >= value:
                reason = f"it was {window[-1]} at the last update, and counts from the beginning"
                raise ConfigError(f"update({name})", value, reason, "Give a larger number")
        for name, value in new.items():
            self._counters.setdefault(name, deque(maxlen=self.window_size)).append(value)
        if flops is not None:
            self._flops.append(flops)

    def compute(self) -> dict[str, float]:
        """The counters and, once the window is full, the rates; {} before the first update."""
        metrics = {name: window[-1] for name, window in self._counters.items()}
        times = self._counters.get("time", deque[float]())
        if len(times) < self.window_size:
            return metrics
        seconds = times[-1] - times[0]
        names = {"batches": "batches_per_sec", "samples": "samples_per_sec", "lengths": "items_per_sec"}
        for name, rate in names.items():
            window = self._counters.get(name, deque[float]())
            if len(window) == self.window_size:
                self._add(metrics, rate, (window[-1] - window[0]) / seconds)
        if len(self._flops) == self.window_size:
            per_second = (sum(self._flops) - self._flops[0]) / seconds
            self._add(metrics, "flops_per_sec", per_second)
            if self.available_flops:
                metrics[f"device{self.separator}mfu"] = per_second / self.available_flops
        return metrics

    def reset(self) -> None:
        """Forget everything."""
        self._counters.clear()
        self._flops.clear()

    def _add(self, metrics: dict[str, float], name: str, rate: float) -> None:
        metrics[f"device{self.separator}{name}"] = rate
        if self.world_size > 1:
            metrics[name] = rate * self.world_size


class ThroughputMonitor(Throughput):
    """A `Throughput` of a Fabric, which knows its devices and loggers. Other ranks than 0 do nothing.

    Args:
        fabric: Launched already, because the number of processes counts.
        options: `window_size` and `separator`.

    Attributes:
        step: Of the last row that was logged.
    """

    def __init__(self, fabric: "Fabric", **options: Any) -> None:
        fabric.barrier()
        dtype = fabric.precision.compute_dtype or torch.get_default_dtype()
        options.setdefault("available_flops", get_available_flops(fabric.device, dtype))
        super().__init__(world_size=fabric.world_size, **options)
        self._fabric = fabric
        self.step = -1

    def update(self, **counters: Any) -> None:
        """See `Throughput.update`."""
        if self._fabric.is_global_zero:
            super().update(**counters)

    def compute_and_log(self, step: int | None = None) -> dict[str, float]:
        """Log what `compute` gives, under `step` or one more than before; returns it, and {} elsewhere."""
        self.step = self.step + 1 if step is None else step
        metrics = self.compute()
        self._fabric.log_dict(metrics, self.step)
        return metrics
