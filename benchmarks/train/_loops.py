"""The training that is measured: a raw loop, a Fabric's loop, a Trainer's."""

import contextlib
import gc
import io
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

RESULTS = Path(__file__).parents[1] / "results"
_STEADY = 0.1
"""By how much two runs of the baseline in a row may differ."""
BATCH = [torch.randn(64, 32), torch.randint(0, 2, (64,))]


def network() -> nn.Module:
    """Tiny on purpose, so that everything a framework adds shows."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 2))


class Batches:
    """The same batch over and over, so that no loader is measured."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Any:
        for _ in range(self.steps):
            yield BATCH


class Stopwatch:
    """CPU seconds, because other programs share the machine, from the first batch to the last."""

    start = 0.0
    total = 0.0

    def begin(self) -> None:
        self.start = time.process_time()

    def end(self) -> None:
        self.total = time.process_time() - self.start


def raw(steps: int) -> float:
    """Microseconds a step of the loop that everybody writes first."""
    model, watch = network(), Stopwatch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    watch.begin()
    for x, y in Batches(steps):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    watch.end()
    return watch.total / steps * 1e6


def fabric_loop(make: Callable[[], Any]) -> Callable[[int], float]:
    """The same loop with a Fabric's module and optimizer."""

    def run(steps: int) -> float:
        fabric, model, watch = make(), network(), Stopwatch()
        fabric.launch()
        model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.01))
        loader = Batches(steps)
        watch.begin()
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
        watch.end()
        return watch.total / steps * 1e6

    return run


def trainer_loop(module_base: type, make: Callable[[], Any], logs: int) -> Callable[[int], float]:
    """The same training by a Trainer, with `logs` values logged in each step."""
    names = [f"metric{i}" for i in range(logs)]

    class Model(module_base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net, self.watch = network(), Stopwatch()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
            for name in names:
                self.log(name, loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

        def on_train_epoch_start(self) -> None:
            self.watch.begin()

        def on_train_epoch_end(self) -> None:
            self.watch.end()

    def run(steps: int) -> float:
        model = Model()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            make().fit(model, Batches(steps))
        return model.watch.total / steps * 1e6

    return run


def interleaved(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, dict[str, float]]:
    """Run all in turns, the order reversed every other round, with the first entry before and after each.

    A machine that others use changes its speed from one moment to the next. So a competitor is compared to
    the mean of the two runs of the baseline around it, and a round in which those two differ by more than a
    tenth says nothing about it.

    Returns:
        For each: the median, the fastest tenth, and the ratio to the baseline with its quartiles.
    """
    baseline, *others = runs
    times: dict[str, list[float]] = {name: [] for name in runs}
    ratios: dict[str, list[tuple[float, bool]]] = {name: [] for name in others}
    for number in range(rounds + 1):
        before = _measured(runs[baseline])
        for name in others if number % 2 else reversed(others):
            value, after = _measured(runs[name]), _measured(runs[baseline])
            if number:  # the first round only warms up
                times[name].append(value)
                times[baseline].append(after)
                steady = abs(after - before) <= _STEADY * min(after, before)
                ratios[name].append((2 * value / (before + after), steady))
            before = after
    fast = _fast(times[baseline])
    found = {name: summary(times[name], steady_ones(ratios[name]), fast) for name in others}
    return {baseline: summary(times[baseline], [1.0, 1.0], fast), **found}


def _measured(run: Callable[[], float]) -> float:
    """One measurement that pays for nobody else's garbage, nor for looking through what libraries hold."""
    gc.collect()
    gc.freeze()
    return run()


def steady_ones(ratios: list[tuple[float, bool]]) -> list[float]:
    """The ratios of the rounds in which the machine kept its speed; all of them if those are too few."""
    steady = [ratio for ratio, kept in ratios if kept]
    return steady if len(steady) >= max(2, len(ratios) / 4) else [ratio for ratio, _ in ratios]


def _fast(values: list[float]) -> float:
    """What the fastest tenth of the runs stays below: unlike the best, it does not fall with their number."""
    return statistics.quantiles(values, n=10, method="inclusive")[0]


def summary(values: list[float], ratios: list[float], fast: float) -> dict[str, float]:
    """Medians and ratios of one competitor; `fast` is the time of the baseline's fastest tenth."""
    low, _, high = statistics.quantiles(ratios, n=4)
    return {
        "median_us": statistics.median(values),
        "fast_us": _fast(values),
        "ratio": statistics.median(ratios),
        "ratio_q1": low,
        "ratio_q3": high,
        "fast_ratio": _fast(values) / fast,
        "rounds": len(ratios),
    }


def table(results: dict[str, dict[str, float]]) -> str:
    """The results as lines of text."""
    lines = [f"{'':40}{'us/step':>9}{'ratio':>8}  {'quartiles':<12}{'fastest tenth':>14}"]
    for name, row in results.items():
        spread = f"{row['ratio_q1']:.2f}-{row['ratio_q3']:.2f}"
        lines.append(
            f"{name:40}{row['median_us']:9.0f}{row['ratio']:8.2f}  {spread:<12}{row['fast_ratio']:14.2f}"
        )
    return "\n".join(lines)


def machine() -> dict[str, str]:
    """What a number depends on besides the code."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), cpu)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    when = time.strftime("%Y-%m-%d", time.gmtime())
    return {"cpu": cpu, "cores": str(os.cpu_count()), "load": load, "date": when, **versions}
