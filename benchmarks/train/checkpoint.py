"""How long a checkpoint of 1 GB holds training up, against the time of copying it into CPU memory.

A model with AdamW (weights and optimizer state are 1 GB) trains; now and then a step is preceded by a save.
Two things are measured for each way of saving: how long the training thread stands still for it (the call
that saves, and the wait before the optimizer's step), and how much longer the step with the save takes
altogether, which holds what the background's work takes away from the processor. Rounds alternate between the
ways; the baseline is a plain copy of every tensor into memory that was used before, as staging does it.

    python -m benchmarks.train.checkpoint [--rounds 5] [--size-gb 1.0] [--out FILE]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
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


def ways(training: Training, folder: Path) -> dict[str, Callable[[], tuple[float, float]]]:
    """Name and one measurement of each way; a measurement ends when the file is written."""
    staged: dict[int, torch.Tensor] = {}

    def copy() -> None:
        for number, tensor in enumerate(_tensors(training.content())):
            if number not in staged:
                staged[number] = torch.empty_like(tensor)
            staged[number].copy_(tensor)

    def blixt(plugin: CheckpointIO) -> Callable[[], tuple[float, float]]:
        def save() -> None:
            plugin.expect_steady(training.model.parameters())
            plugin.expect_steady(_tensors(training.optimizer.state_dict()["state"]))
            plugin.save_checkpoint(training.content(), folder / "blixt.ckpt")

        def once() -> tuple[float, float]:
            measured = training.step(save, plugin.wait_for_staging)
            if isinstance(plugin, AsyncCheckpointIO):
                plugin.wait()
            return measured

        return once

    found = {
        "copy to staging": lambda: training.step(copy),
        "blixt, AsyncCheckpointIO": blixt(AsyncCheckpointIO()),
        "blixt, AsyncCheckpointIO(overlap=False)": blixt(AsyncCheckpointIO(overlap=False)),
        "blixt, TorchCheckpointIO": blixt(TorchCheckpointIO()),
    }
    rival = _lightning(training, folder)
    return found if rival is None else {**found, "Lightning, AsyncCheckpointIO": rival}


def _lightning(training: Training, folder: Path) -> Callable[[], tuple[float, float]] | None:
    try:
        from lightning.pytorch.plugins.io import AsyncCheckpointIO as Rival
        from lightning.pytorch.plugins.io import TorchCheckpointIO as Inner
    except ImportError:
        return None

    def once() -> tuple[float, float]:
        plugin = Rival(Inner())
        measured = training.step(
            lambda: plugin.save_checkpoint(training.content(), folder / "lightning.ckpt")
        )
        plugin.teardown()
        return measured

    return once


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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size-gb", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=RESULTS / "train-checkpoint.json")
    options = parser.parse_args()
    training = Training(options.size_gb)
    stood: dict[str, list[float]] = {}
    added: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        runs = ways(training, Path(folder))
        for number in range(options.rounds + 1):
            for name in runs if number % 2 else reversed(list(runs)):
                plain = statistics.median(training.step()[1] for _ in range(2))
                held, whole = runs[name]()
                if number:  # the first round only warms up
                    stood.setdefault(name, []).append(held)
                    added.setdefault(name, []).append(whole - plain)
    baseline = statistics.median(stood["copy to staging"])
    rows = {
        name: {
            "held_up_s": statistics.median(stood[name]),
            "held_up_min_s": min(stood[name]),
            "held_up_max_s": max(stood[name]),
            "held_up_to_copy": statistics.median(stood[name]) / baseline,
            "added_s": statistics.median(added[name]),
        }
        for name in stood
    }
    result = {"machine": machine(), "size_gb": options.size_gb, "rounds": options.rounds, "rows": rows}
    print(" ".join(f"{key}={value}" for key, value in result["machine"].items()))
    print(f"{'':42}{'held up':>9}{'min-max':>14}{'to copy':>9}{'step longer by':>16}")
    for name, row in rows.items():
        spread = f"{row['held_up_min_s']:.2f}-{row['held_up_max_s']:.2f}"
        print(
            f"{name:42}{row['held_up_s']:8.3f}s{spread:>14}{row['held_up_to_copy']:9.2f}{row['added_s']:15.3f}s"
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
