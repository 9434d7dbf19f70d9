"""What every data benchmark shares: fresh processes in turns, medians and spread, a table and a JSON file."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.data import _peers

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
BATCH = 64
TIMEOUT_S = 900


class PeerFailedError(Exception):
    """Another library could not do a row; its last line says why."""


@dataclass(frozen=True)
class Competitor:
    """A column of a table.

    Args:
        name: its heading.
        system: "blixt", "litdata" or "mosaic": the module that reads, and the Python that runs it.
        options: given to the reader.
    """

    name: str
    system: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Row:
    """A line of a table: the same work for every competitor.

    Args:
        name: what is done.
        reader: the reader's name in each system's module.
        competitors: who takes part; ratios are to the one whose system is "litdata" and comes first.
        target: the ratio that issue 4 asks for.
        limit: `(samples per CPU second, what it is)` where physics caps the row.
        metric: "cpu" (samples per CPU second) or "first" (seconds to the first batch).
    """

    name: str
    reader: str
    competitors: list[Competitor]
    target: float
    limit: Callable[[], tuple[float, str]] | None = None
    metric: str = "cpu"


def arguments(description: str | None) -> argparse.Namespace:
    """Parse what all scripts understand."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the data and two runs")
    parser.add_argument("--runs", type=int, default=None, help="runs of each competitor (5; 2 with --quick)")
    parser.add_argument(
        "--folder", type=Path, help="where the data is made and kept; a temporary one by default"
    )
    parser.add_argument(
        "--seconds", type=float, help="no further turns of a row that has used its share of this time"
    )
    parser.add_argument("--only", help="rows whose name contains this")
    parser.add_argument("--without", nargs="*", default=[], help="systems to leave out")
    parser.add_argument("--out", type=Path, default=RESULTS)
    found = parser.parse_args()
    found.runs = found.runs or (2 if found.quick else 5)
    return found


@contextmanager
def folder_of(given: argparse.Namespace) -> Iterator[Path]:
    """Yield the folder of the data."""
    if given.folder is None:
        with tempfile.TemporaryDirectory(prefix="blixt-bench-") as made:
            yield Path(made)
    else:
        given.folder.mkdir(parents=True, exist_ok=True)
        yield given.folder


def python_of(system: str) -> str | None:
    """The interpreter that a system runs in, None when it is not installed."""
    return _peers.python(system)


def run(name: str, rows: list[Row], folder: Path, given: argparse.Namespace, facts: dict[str, Any]) -> None:
    """Measure the rows, print the table, write both to the results."""
    result: dict[str, Any] = {"machine": machine(), "runs": given.runs, **facts, "rows": []}
    chosen = [row for row in rows if not given.only or given.only in row.name]
    ends_at = None if given.seconds is None else time.monotonic() + given.seconds
    for place, row in enumerate(chosen):
        now = time.monotonic()
        share_s = None if ends_at is None else (ends_at - now) / (len(chosen) - place)
        found = measure_row(row, folder, given, None if share_s is None else now + share_s)
        result["rows"].append(found)
        print(table([found]), flush=True)
    result["load_at_end"] = os.getloadavg()[0]
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"data-{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (given.out / f"data-{name}.txt").write_text(heading(result) + "\n" + table(result["rows"]) + "\n")
    print(heading(result))


def measure_row(
    row: Row, folder: Path, given: argparse.Namespace, ends_at: float | None = None
) -> dict[str, Any]:
    """Let the competitors take turns, each in a fresh process; at least one turn, none after the end."""
    taking_part = [
        one
        for one in row.competitors
        if one.system not in given.without and python_of(one.system) is not None
    ]
    runs: dict[str, list[dict[str, float]]] = {one.name: [] for one in taking_part}
    failed: dict[str, str] = {}
    for turn in range(-1, given.runs):
        if turn > 0 and ends_at is not None and time.monotonic() > ends_at:
            break
        for one in taking_part:
            if one.name in failed or (turn < 0 and one.options.get("before") != "warm"):
                continue
            try:
                measured = measure(one, row.reader, folder)
            except PeerFailedError as problem:
                failed[one.name] = str(problem)
                continue
            if turn >= 0:
                runs[one.name].append(measured)
    taking_part = [one for one in taking_part if one.name not in failed]
    found: dict[str, Any] = {"row": row.name, "metric": row.metric, "target": row.target, "competitors": {}}
    found["failed"] = failed
    if row.limit is not None:
        found["limit"], found["limit_is"] = row.limit()
    for one in taking_part:
        found["competitors"][one.name] = {
            "system": one.system,
            "turns": len(runs[one.name]),
            **summary(runs[one.name], row.metric),
        }
    base = next((each for each in found["competitors"].values() if each["system"] == "litdata"), None)
    for each in found["competitors"].values():
        each["ratio"] = None if base is None else ratio(each, base, row.metric)
    if row.limit is not None and base is not None:
        found["limit_ratio"] = found["limit"] / base["value"]
    return found


def measure(one: Competitor, reader: str, folder: Path) -> dict[str, float]:
    """Run one reader once, in a process of its own.

    Raises:
        PeerFailedError: when another library's reader ends with an error; the others go on.
    """
    if one.options.get("before") == "cold":
        forget_caches(folder)
    command = [
        *(sys.executable, "-m", "benchmarks.data._reap"),
        *(str(python_of(one.system)), "-m", f"benchmarks.data._{one.system}"),
        *(reader, str(folder), json.dumps(one.options)),
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment()
    )
    if done.returncode and one.system != "blixt":
        print(done.stderr[-4000:], file=sys.stderr)
        raise PeerFailedError(
            done.stderr.strip().splitlines()[-1][:200] if done.stderr.strip() else "no word"
        )
    if done.returncode:
        sys.exit(f"{one.name} failed at {reader}:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def environment() -> dict[str, str]:
    """One thread per process for everybody's linear algebra, no telemetry, and compiled modules for all.

    What was installed by pip was compiled then; a source tree must not be compiled anew in every worker.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def forget_caches(folder: Path) -> None:
    """Remove what the systems cached of remote data, so that the next read is cold."""
    import shutil

    for cache in folder.glob("cache-*-cold"):
        shutil.rmtree(cache, ignore_errors=True)


def summary(runs: list[dict[str, float]], metric: str) -> dict[str, Any]:
    """Median and spread of the metric, and the medians of the rest."""
    values = [run["first_s"] if metric == "first" else run["samples"] / run["cpu_s"] for run in runs]
    names = sorted(set.intersection(*(set(run) for run in runs)))
    return {
        "value": statistics.median(values),
        "spread": [min(values), max(values)],
        **{name: statistics.median(run[name] for run in runs) for name in names},
    }


def ratio(one: dict[str, Any], base: dict[str, Any], metric: str) -> float:
    """How many times better than the base."""
    return base["value"] / one["value"] if metric == "first" else one["value"] / base["value"]


def machine() -> dict[str, Any]:
    """Where and when this ran."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown CPU"
    )
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "load_at_start": os.getloadavg()[0],
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "versions": _peers.versions(),
    }


def heading(result: dict[str, Any]) -> str:
    """The machine and the data in two lines."""
    facts = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['date']}, {facts['cpu']}, {facts['cores']} cores, load {facts['load_at_start']:.1f} to "
        f"{result['load_at_end']:.1f}, Python {facts['python']}, {versions}\n"
        f"{result.get('data', '')}; at most {result['runs']} runs each in turns, fresh processes, start-up "
        "included, imports not"
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as text: metric with spread, ratio, wall seconds, first batch, memory."""
    lines: list[str] = []
    for row in rows:
        unit = "first batch s" if row["metric"] == "first" else "samples/CPU-s"
        turns = min((each["turns"] for each in row["competitors"].values()), default=0)
        lines.append(f"\n{row['row']} (target {row['target']:g}x), {turns} turns")
        lines.append(
            f"  {'':<34}{unit:>14} {'(min to max)':>22} {'ratio':>8} {'wall s':>8} {'first s':>8} {'MB':>6}"
        )
        for name, each in row["competitors"].items():
            low, high = each["spread"]
            form = ".3f" if row["metric"] == "first" else ",.0f"
            times = "" if each["ratio"] is None else f"{each['ratio']:.2f}x"
            lines.append(
                f"  {name:<34}{each['value']:>14{form}} {f'({low:{form}} to {high:{form}})':>22} {times:>8} "
                f"{each['wall_s']:>8.2f} {each['first_s']:>8.3f} {each['rss_mb']:>6.0f}"
            )
        lines += [f"  {name:<34}failed: {why}" for name, why in row.get("failed", {}).items()]
        if "limit" in row:
            times = f"{row['limit_ratio']:.2f}x" if "limit_ratio" in row else ""
            lines.append(f"  {'limit: ' + row['limit_is']:<34}{row['limit']:>14,.0f} {'':>22} {times:>8}")
    return "\n".join(lines)
