"""Competitors in turns, CPU seconds, ratios of the same round: what the benchmarks of this folder share."""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.train._loops import RESULTS, machine

Run = Callable[[], object]


def options(name: str, rounds: int, description: str | None) -> argparse.Namespace:
    """The command line all share: `--rounds` and `--out`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--out", type=Path, default=RESULTS / f"llm-{name}.json", help="JSON goes here")
    return parser.parse_args()


def cpu_ms(run: Run, repeats: int = 1) -> float:
    """CPU milliseconds of this process for one call."""
    start = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - start) / repeats * 1e3


def compare(runs: dict[str, Run], rounds: int, repeats: int = 1) -> dict[str, dict[str, float]]:
    """Run all in turns, the order reversed every other round; the first entry is what others are compared to.

    Returns:
        For each: median and best milliseconds, and the median ratio to the first in the same round, with its
        quartiles (above 1: slower than the first).
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name in runs if number % 2 else reversed(list(runs)):
            value = cpu_ms(runs[name], repeats)
            if number:  # the first round only warms up
                times[name].append(value)
    baseline = times[next(iter(runs))]
    return {name: summary(values, baseline) for name, values in times.items()}


def summary(values: list[float], baseline: list[float]) -> dict[str, float]:
    """Median and best of some times, and their ratios to the baseline's times of the same rounds."""
    ratios = [value / base for value, base in zip(values, baseline, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
    return {
        "median_ms": statistics.median(values),
        "best_ms": min(values),
        "ratio": statistics.median(ratios),
        "ratio_q1": low,
        "ratio_q3": high,
    }


def show(title: str, results: dict[str, dict[str, float]]) -> None:
    """Print a comparison as a table."""
    print(f"\n{title:44}{'CPU ms':>10}{'best':>10}{'ratio':>8}  quartiles")
    for name, row in results.items():
        spread = f"{row['ratio_q1']:.2f}-{row['ratio_q3']:.2f}"
        print(f"  {name:42}{row['median_ms']:10.2f}{row['best_ms']:10.2f}{row['ratio']:8.2f}  {spread}")


def write(path: Path, rounds: int, results: dict[str, Any]) -> None:
    """Write the JSON beside the text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "rounds": rounds, "results": results}
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {path}")
