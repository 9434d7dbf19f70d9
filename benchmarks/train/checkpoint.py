"""How long a checkpoint of 1 GB holds training up, against the time of copying it into CPU memory.

A model with AdamW (weights and optimizer state are 1 GB) trains; now and then a step is preceded by a save,
and steps go on until the file is written. Three things are measured for each way of saving: how long the
training thread stands still for it (the call that saves, and the wait before the optimizer's step), how much
longer all steps together take until the file is there, which holds what the background's work takes away from
the processor, and after how long the file is there. Rounds alternate between the ways, each between plain
steps that tell how long a step takes now; the baseline is a plain copy of every tensor into memory that was
used before, as staging does it.

    python -m benchmarks.train.checkpoint [--rounds 7] [--size-gb 1.0] [--out FILE]
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.train._loops import RESULTS, machine
from torch import nn
from torch.optim import AdamW

from blixt.fabric.checkpoint import AsyncCheckpointIO, CheckpointIO, TorchCheckpointIO

_WIDTH = 1024


class Model(nn.Module):
    """Wide layers, through which a batch takes about as long as their copy."""

    def __init__(self, size_gb: float) -> None:
        super().__init__()
        per_layer = _WIDTH * _WIDTH * 4 * 3  # bytes of a weight and of AdamW's two moments
        self.layers = nn.ModuleList(
            nn.Linear(_WIDTH, _WIDTH, bias=False) for _ in range(round(size_gb * 1e9 / per_layer))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The batch through all layers."""
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


class Training:
    """A loop that can be told to save before a step, and knows what that cost."""

    def __init__(self, size_gb: float) -> None:
        self.model = Model(size_gb)
        self.optimizer = AdamW(self.model.parameters(), lr=1e-5)
        self.batch = torch.randn(32, _WIDTH)
        self.step()

    def content(self) -> dict[str, Any]:
        """What is saved: live tensors."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def step(
        self, save: Callable[[], None] | None = None, wait: Callable[[], None] | None = None
    ) -> tuple[float, float]:
        """Seconds the training thread stood still, and seconds of everything."""
        began = time.perf_counter()
        if save is not None:
            save()
        stood = time.perf_counter() - began
        self.optimizer.zero_grad()
        self.model(self.batch).square().mean().backward()
        ready = time.perf_counter()
        if wait is not None:
            wait()
        stood += time.perf_counter() - ready
        self.optimizer.step()
        return stood, time.perf_counter() - began


@dataclass(frozen=True)
class Way:
    """A way of saving.

    Attributes:
        save: Called before the forward pass.
        wait: Called before the optimizer's step, or None.
        written: Whether the file is there.
        close: Called after it.
    """

    save: Callable[[], None]
    wait: Callable[[], None] | None = None
    written: Callable[[], bool] = lambda: True
    close: Callable[[], None] = lambda: None


class Told(TorchCheckpointIO):
    """Knows when it has written."""

    def __init__(self) -> None:
        super().__init__()
        self.done = threading.Event()

    def save_checkpoint(self, *args: Any, **options: Any) -> None:
        """Write, and say so."""
        super().save_checkpoint(*args, **options)
        self.done.set()


def ways(training: Training, folder: Path) -> dict[str, Callable[[], Way]]:
    """Name and maker of each way."""
    staged: dict[int, torch.Tensor] = {}

    def copy() -> None:
        for number, tensor in enumerate(_tensors(training.content())):
            if number not in staged:
                staged[number] = torch.empty_like(tensor)
            staged[number].copy_(tensor)

    def blixt(plugin: CheckpointIO, inner: Told) -> Callable[[], Way]:
        def save() -> None:
            plugin.expect_steady(training.model.parameters())
            plugin.expect_steady(_tensors(training.optimizer.state_dict()["state"]))
            plugin.save_checkpoint(training.content(), folder / "blixt.ckpt")

        def make() -> Way:
            inner.done.clear()
            return Way(save, plugin.wait_for_staging, inner.done.is_set)

        return make

    overlapping, plain, direct = Told(), Told(), Told()
    found: dict[str, Callable[[], Way]] = {
        "copy to staging": lambda: Way(copy),
        "blixt, AsyncCheckpointIO": blixt(AsyncCheckpointIO(overlapping), overlapping),
        "blixt, AsyncCheckpointIO(overlap=False)": blixt(AsyncCheckpointIO(plain, overlap=False), plain),
        "blixt, TorchCheckpointIO": blixt(direct, direct),
    }
    rival = _lightning(training, folder)
    return found if rival is None else {**found, "Lightning, AsyncCheckpointIO": rival}


def _lightning(training: Training, folder: Path) -> Callable[[], Way] | None:
    try:
        from lightning.pytorch.plugins.io import AsyncCheckpointIO as Rival
        from lightning.pytorch.plugins.io import TorchCheckpointIO as Inner
    except ImportError:
        return None

    def make() -> Way:
        done = threading.Event()

        class Theirs(Inner):
            def save_checkpoint(self, *args: Any, **options: Any) -> None:
                super().save_checkpoint(*args, **options)
                done.set()

        plugin = Rival(Theirs())
        path = folder / "lightning.ckpt"
        return Way(
            lambda: plugin.save_checkpoint(training.content(), path), None, done.is_set, plugin.teardown
        )

    return make


def measure(training: Training, way: Way) -> dict[str, float]:
    """One save of one way, between plain steps."""
    plain = [training.step()[1] for _ in range(3)]
    began = time.perf_counter()
    held, _ = training.step(way.save, way.wait)
    steps, ends = 1, time.perf_counter()
    while not way.written():
        training.step()
        steps, ends = steps + 1, time.perf_counter()
    way.close()
    plain += [training.step()[1] for _ in range(3)]
    return {
        "held_up_s": held,
        "added_s": ends - began - steps * statistics.median(plain),
        "written_s": ends - began,
    }


def _tensors(item: Any) -> list[torch.Tensor]:
    if isinstance(item, torch.Tensor):
        return [item]
    values = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return [tensor for value in values for tensor in _tensors(value)]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size-gb", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=RESULTS / "train-checkpoint.json")
    options = parser.parse_args()
    training = Training(options.size_gb)
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        runs = ways(training, Path(folder))
        for number in range(options.rounds + 1):
            for name in runs if number % 2 else reversed(list(runs)):
                measured = measure(training, runs[name]())
                os.sync()  # nobody pays for the bytes that another one left to the kernel
                if number:  # the first round only warms up
                    found.setdefault(name, []).append(measured)
    baseline = statistics.median(each["held_up_s"] for each in found["copy to staging"])
    rows = {name: _summary(measured, baseline) for name, measured in found.items()}
    result = {"machine": machine(), "size_gb": options.size_gb, "rounds": options.rounds, "rows": rows}
    print(" ".join(f"{key}={value}" for key, value in result["machine"].items()))
    print(f"{'':42}{'held up':>9}{'min-max':>14}{'to copy':>9}{'steps longer by':>17}{'written in':>12}")
    for name, row in rows.items():
        spread = f"{row['held_up_min_s']:.2f}-{row['held_up_max_s']:.2f}"
        print(
            f"{name:42}{row['held_up_s']:8.3f}s{spread:>14}{row['held_up_to_copy']:9.2f}{row['added_s']:16.2f}s"
            f"{row['written_s']:11.2f}s"
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")


def _summary(measured: list[dict[str, float]], baseline: float) -> dict[str, float]:
    held = [each["held_up_s"] for each in measured]
    medians = {name: statistics.median(each[name] for each in measured) for name in measured[0]}
    return {
        **medians,
        "held_up_min_s": min(held),
        "held_up_max_s": max(held),
        "held_up_to_copy": medians["held_up_s"] / baseline,
    }


if __name__ == "__main__":
    main()
