"""What a step costs beyond torch: a raw loop, blixt and its rivals, interleaved in one process.

The model is tiny on purpose (32 -> 64 -> 2, batch 64), so that a step takes a few hundred microseconds and
everything a framework adds shows. Rounds are short and alternate between the competitors, with the raw loop
before and after each: the ratio to these two cancels what the machine does meanwhile.

    python -m benchmarks.train.overhead [--rounds 31] [--steps 200] [--only WORD] [--out FILE]
"""

import argparse
import functools
import io
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.train._loops import RESULTS, fabric_loop, interleaved, machine, raw, table, trainer_loop
from benchmarks.train._rivals import rivals

from blixt.fabric import Fabric
from blixt.trainer import Callback, CSVLogger, Module, ProgressBar, Trainer

OFF: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "max_epochs": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def competitors(folder: str) -> dict[str, Callable[[int], float]]:
    """Name and loop of everything that is compared; the first is the baseline."""

    def ours(**changes: Any) -> Callable[[], Trainer]:
        return lambda: Trainer(**{**OFF, **changes})

    def full() -> Trainer:
        bar = ProgressBar(stream=io.StringIO())
        return Trainer(
            **{**OFF, "logger": CSVLogger(folder), "callbacks": [bar], "enable_progress_bar": True}
        )

    empty = [Callback(), Callback(), Callback()]
    mine: dict[str, Callable[[int], float]] = {
        "raw": raw,
        "blixt Fabric": fabric_loop(lambda: Fabric(accelerator="cpu", devices=1)),
        "blixt Trainer, off": trainer_loop(Module, ours(), 0),
        "blixt Trainer, 1 log": trainer_loop(Module, ours(), 1),
        "blixt Trainer, 5 logs": trainer_loop(Module, ours(), 5),
        "blixt Trainer, bar + CSV + 1 log": trainer_loop(Module, full, 1),
        "blixt Trainer, 3 empty callbacks": trainer_loop(Module, ours(callbacks=empty), 0),
        "blixt Trainer, clip": trainer_loop(Module, ours(gradient_clip_val=1.0), 0),
    }
    return mine | rivals(OFF, folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--only", default="", help="measure competitors with this in their name")
    parser.add_argument("--out", type=Path, default=RESULTS / "train-overhead.json", help="JSON goes here")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    about = machine()
    print("  ".join(f"{name} {value}" for name, value in about.items()))
    with tempfile.TemporaryDirectory() as folder:
        loops = competitors(folder)
        chosen = {name: loop for name, loop in loops.items() if name == "raw" or options.only in name}
        runs = {name: functools.partial(loop, options.steps) for name, loop in chosen.items()}
        results = interleaved(runs, options.rounds)
    print(table(results))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": about, "rounds": options.rounds, "steps": options.steps, "results": results}
    options.out.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
