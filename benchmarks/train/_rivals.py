"""The same training by other libraries; a rival that is not installed is left out."""

import logging
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from benchmarks.train._loops import Batches, Stopwatch, fabric_loop, network, trainer_loop
from torch import nn

Run = Callable[[int], float]


def rivals(off: dict[str, Any], folder: str) -> dict[str, Run]:
    """Name and loop of every rival that is installed."""
    found: dict[str, Run] = {}
    for package, make in (("lightning", lightning), ("accelerate", accelerate), ("ignite", ignite)):
        if find_spec(package) is None:
            print(f"{package} is not installed (pip install 'blixt[bench]'): measured without it.")
        else:
            found |= make(off, folder)
    return found


def lightning(off: dict[str, Any], folder: str) -> dict[str, Run]:
    warnings.simplefilter("ignore")
    import lightning as pl
    from lightning.pytorch.loggers import CSVLogger

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)

    def full() -> Any:
        return pl.Trainer(**{**off, "logger": CSVLogger(folder), "enable_progress_bar": True})

    def plain() -> Any:
        return pl.Trainer(**off)

    base = pl.LightningModule
    return {
        "Lightning Fabric": fabric_loop(lambda: pl.Fabric(accelerator="cpu", devices=1)),
        "Lightning Trainer, off": trainer_loop(base, plain, 0),
        "Lightning Trainer, 1 log": trainer_loop(base, plain, 1),
        "Lightning Trainer, 5 logs": trainer_loop(base, plain, 5),
        "Lightning Trainer, bar + CSV + 1 log": trainer_loop(base, full, 1),
    }


def accelerate(off: dict[str, Any], folder: str) -> dict[str, Run]:
    def run(steps: int) -> float:
        from accelerate import Accelerator

        accelerator, model, watch = Accelerator(cpu=True), network(), Stopwatch()
        model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.01))
        watch.begin()
        for x, y in Batches(steps):
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
        watch.end()
        return watch.total / steps * 1e6

    return {"accelerate": run}


def ignite(off: dict[str, Any], folder: str) -> dict[str, Run]:
    def run(steps: int) -> float:
        from ignite.engine import Engine

        model, watch = network(), Stopwatch()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

        def update(engine: Any, batch: Any) -> torch.Tensor:
            loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        engine = Engine(update)
        watch.begin()
        engine.run(Batches(steps), max_epochs=1)
        watch.end()
        return watch.total / steps * 1e6

    return {"ignite": run}
