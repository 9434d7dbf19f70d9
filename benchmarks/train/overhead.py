"""What a step costs beyond torch: a raw loop, blixt and Lightning, interleaved in one process.

The model is tiny on purpose (32 -> 64 -> 2, batch 64), so that a step takes a few hundred microseconds and
everything a framework adds shows. Rounds alternate between the competitors; the ratio of each round to the
raw loop of the same round cancels what the machine does meanwhile.

    python -m benchmarks.train.overhead [--rounds 21] [--steps 100] [--out FILE]
"""

import argparse
import contextlib
import io
import json
import logging
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from blixt.fabric import Fabric
from blixt.trainer import Callback, CSVLogger, Module, ProgressBar, Trainer

RESULTS = Path(__file__).parents[1] / "results"
BATCH = [torch.randn(64, 32), torch.randint(0, 2, (64,))]


def network() -> nn.Module:
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
        with contextlib.redirect_stdout(io.StringIO()):
            make().fit(model, Batches(steps))
        return model.watch.total / steps * 1e6

    return run


def competitors(folder: str) -> dict[str, Callable[[int], float]]:
    off: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }

    def ours(**changes: Any) -> Callable[[], Trainer]:
        return lambda: Trainer(**{**off, **changes})

    def full() -> Trainer:
        bar = ProgressBar(stream=io.StringIO())
        return Trainer(**{**off, "logger": CSVLogger(folder), "callbacks": [bar]})

    result: dict[str, Callable[[int], float]] = {
        "raw": raw,
        "blixt Fabric": fabric_loop(lambda: Fabric(accelerator="cpu", devices=1)),
        "blixt Trainer, off": trainer_loop(Module, ours(), 0),
        "blixt Trainer, 1 log": trainer_loop(Module, ours(), 1),
        "blixt Trainer, 5 logs": trainer_loop(Module, ours(), 5),
        "blixt Trainer, bar + CSV + 1 log": trainer_loop(Module, full, 1),
        "blixt Trainer, 3 empty callbacks": trainer_loop(
            Module, ours(callbacks=[Callback(), Callback(), Callback()]), 0
        ),
        "blixt Trainer, clip": trainer_loop(Module, ours(gradient_clip_val=1.0), 0),
    }
    return result | lightning_competitors(off)


def lightning_competitors(off: dict[str, Any]) -> dict[str, Callable[[int], float]]:
    try:
        import lightning
    except ImportError:
        print("Lightning is not installed (pip install 'blixt[bench]'): measured without it.")
        return {}
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    theirs: Callable[[], Any] = lambda: lightning.Trainer(**off)  # noqa: E731
    return {
        "Lightning Fabric": fabric_loop(lambda: lightning.Fabric(accelerator="cpu", devices=1)),
        "Lightning Trainer, off": trainer_loop(lightning.LightningModule, theirs, 0),
        "Lightning Trainer, 1 log": trainer_loop(lightning.LightningModule, theirs, 1),
    }


def measure(rounds: int, steps: int) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        runs = competitors(folder)
        times: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(rounds + 1):
            names = list(runs) if number % 2 else list(reversed(runs))
            for name in names:
                value = runs[name](steps)
                if number:  # the first round only warms up
                    times[name].append(value)
    return {name: summary(values, times["raw"]) for name, values in times.items()}


def summary(values: list[float], baseline: list[float]) -> dict[str, float]:
    ratios = [value / base for value, base in zip(values, baseline, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return {
        "median_us": statistics.median(values),
        "best_us": min(values),
        "ratio": statistics.median(ratios),
        "ratio_q1": low,
        "ratio_q3": high,
        "best_ratio": min(values) / min(baseline),
    }


def machine() -> dict[str, str]:
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), cpu)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"cpu": cpu, "cores": str(os.cpu_count()), "load": load, **versions}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path, default=RESULTS / "train-overhead.json", help="JSON goes here")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    about = machine()
    print("  ".join(f"{name} {value}" for name, value in about.items()))
    results = measure(options.rounds, options.steps)
    print(f"{'':36}{'us/step':>9}{'ratio':>8}{'  quartiles':<14}{'best':>6}")
    for name, row in results.items():
        spread = f"  {row['ratio_q1']:.2f}-{row['ratio_q3']:.2f}"
        print(f"{name:36}{row['median_us']:9.0f}{row['ratio']:8.2f}{spread:<14}{row['best_ratio']:6.2f}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": about, "rounds": options.rounds, "steps": options.steps, "results": results}
    options.out.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
