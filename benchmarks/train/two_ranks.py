"""What a step of two processes costs beyond torch's own DDP: both run interleaved on the same two processes.

A step waits for the other process, so wall time is measured. Gradients go through gloo on the CPU.

    python -m benchmarks.train.two_ranks [--rounds 15] [--steps 60] [--out FILE]
"""

import argparse
import functools
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.train._loops import RESULTS, Batches, interleaved, machine, network, table
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from blixt.fabric import Fabric
from blixt.trainer import Module, Trainer


class Watch:
    """Wall seconds from the first batch to the last."""

    def begin(self) -> None:
        self.start = time.perf_counter()

    def us_a_step(self, steps: int) -> float:
        return (time.perf_counter() - self.start) / steps * 1e6


def raw(steps: int) -> float:
    model, watch = DistributedDataParallel(network()), Watch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    watch.begin()
    for x, y in Batches(steps):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return watch.us_a_step(steps)


def fabric_loop(fabric: Fabric, steps: int) -> float:
    model, watch = network(), Watch()
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.01))
    watch.begin()
    for x, y in Batches(steps):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
    return watch.us_a_step(steps)


def trainer_loop(logs: int, steps: int) -> float:
    class Model(Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.watch, self.us = network(), Watch(), 0.0

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
            for index in range(logs):
                self.log(f"metric{index}", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

        def on_train_epoch_start(self) -> None:
            self.watch.begin()

        def on_train_epoch_end(self) -> None:
            self.us = self.watch.us_a_step(steps)

    model = Model()
    Trainer(
        accelerator="cpu",
        devices=2,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    ).fit(model, Batches(steps))
    return model.us


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=RESULTS / "train-two-ranks.json", help="JSON goes here")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    fabric = Fabric(accelerator="cpu", devices=2)
    fabric.launch()
    steps = options.steps
    runs: dict[str, Callable[[], float]] = {
        "raw DistributedDataParallel": functools.partial(raw, steps),
        "blixt Fabric, ddp": functools.partial(fabric_loop, fabric, steps),
        "blixt Trainer, ddp": functools.partial(trainer_loop, 0, steps),
        "blixt Trainer, ddp, 5 logs": functools.partial(trainer_loop, 5, steps),
    }
    results = interleaved(runs, options.rounds)
    if fabric.is_global_zero:
        about = machine()
        print("  ".join(f"{name} {value}" for name, value in about.items()))
        print(table(results))
        options.out.parent.mkdir(parents=True, exist_ok=True)
        content = {"machine": about, "rounds": options.rounds, "steps": steps, "results": results}
        options.out.write_text(json.dumps(content, indent=2) + "\n")
        print(f"written to {options.out}")


if __name__ == "__main__":
    main()
