"""A dataset built from JPEG files: CPU per sample, start-up, bytes on disk.

    python -m benchmarks.data.build [--quick] [--runs N] [--folder DIR] [--without SYSTEM ...]

Every system reads the same files and stores their bytes and a number, in shards of 64 MB. Each build is a
fresh process; the CPU time is that of it and of all its workers. Start-up is a build of two inputs per
worker, wall and CPU, from the call to its end (what the call itself imports included); the marginal cost per
sample is the rest of a build of all inputs, divided by their number.
"""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.data._bench import ROOT, TIMEOUT_S, arguments, environment, folder_of, machine, python_of
from benchmarks.data._make import make

TARGET, TARGET_STARTUP_S, TARGET_STORED = 5.0, 1.5, 1.005


@dataclass(frozen=True)
class Builder:
    """A column: how it is called, the function in `_build`, the Python that runs it, and its workers."""

    name: str
    function: str
    system: str
    workers: int


BUILDERS = [
    Builder("LitData optimize, 1 worker", "litdata", "litdata", 1),
    Builder("LitData optimize, 2 workers", "litdata", "litdata", 2),
    Builder("blixt optimize, this process", "blixt", "blixt", 0),
    Builder("blixt optimize, 1 worker", "blixt", "blixt", 1),
    Builder("blixt optimize, 2 workers", "blixt", "blixt", 2),
    Builder("blixt DatasetWriter", "blixt_writer", "blixt", 0),
    Builder("mosaic MDSWriter", "mosaic", "mosaic", 0),
    Builder("webdataset ShardWriter", "webdataset", "webdataset", 0),
]


def files(folder: Path, quick: bool) -> dict[str, Any]:
    """Lay every image into a file of its own."""
    facts = make("images", folder, quick=quick, systems=[])
    target = folder / "jpegs"
    if not target.exists():
        target.mkdir()
        offsets, data = np.load(folder / "images.npy"), (folder / "images.bin").read_bytes()
        for index in range(len(offsets) - 1):
            (target / f"{index:06d}.jpg").write_bytes(data[offsets[index] : offsets[index + 1]])
    return facts


def measure(builder: Builder, folder: Path, count: int) -> dict[str, float]:
    """Build once, in a process of its own."""
    options = json.dumps({"workers": builder.workers, "count": count})
    command = [
        *(sys.executable, "-m", "benchmarks.data._reap", str(python_of(builder.system))),
        *("-m", "benchmarks.data._build", builder.function, str(folder), options),
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment()
    )
    if done.returncode:
        sys.exit(f"{builder.name} failed:\n{done.stdout[-1000:]}{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def in_turns(builders: list[Builder], folder: Path, count: int, runs: int) -> dict[str, Any]:
    """Let the builders take turns at a small and at the whole build."""
    small: dict[str, list[dict[str, float]]] = {builder.name: [] for builder in builders}
    whole: dict[str, list[dict[str, float]]] = {builder.name: [] for builder in builders}
    for _ in range(runs):
        for builder in builders:
            small[builder.name].append(measure(builder, folder, 2 * max(builder.workers, 1)))
            whole[builder.name].append(measure(builder, folder, count))
    return {name: summary(small[name], whole[name]) for name in small}


def summary(small: list[dict[str, float]], whole: list[dict[str, float]]) -> dict[str, Any]:
    """Medians, and the spread of the cost per sample."""
    start_cpu = statistics.median(run["cpu_s"] for run in small)
    per_sample = [(run["cpu_s"] - start_cpu) / run["samples"] * 1e6 for run in whole]
    return {
        "cpu_us_per_sample": statistics.median(per_sample),
        "spread": [min(per_sample), max(per_sample)],
        "startup_s": statistics.median(run["wall_s"] for run in small),
        "startup_cpu_s": start_cpu,
        "wall_s": statistics.median(run["wall_s"] for run in whole),
        "rss_mb": max(run["rss_mb"] for run in whole),
        "stored": whole[0]["stored"],
    }


def table(found: dict[str, Any]) -> str:
    """The figures as text; the ratio is to LitData with as many workers (one, where there are none)."""
    head = f"  {'':<30}{'CPU us/sample':>14} {'(min to max)':>18} {'ratio':>7}"
    lines = [head + f"{'start-up s':>11} {'its CPU s':>10} {'wall s':>8} {'MB':>6} {'stored':>8}"]
    for name, each in found.items():
        base = found.get(f"LitData optimize, {2 if '2 workers' in name else 1} worker{'s' * ('2' in name)}")
        cost, ratio = each["cpu_us_per_sample"], ""
        if base is not None:
            ratio = f"{base['cpu_us_per_sample'] / cost:.2f}x"
        spread = f"({each['spread'][0]:.0f} to {each['spread'][1]:.0f})"
        lines.append(
            f"  {name:<30}{cost:>14.1f} {spread:>18} {ratio:>7}{each['startup_s']:>11.2f} "
            f"{each['startup_cpu_s']:>10.2f} {each['wall_s']:>8.2f} {each['rss_mb']:>6.0f} "
            f"{each['stored']:>8.4f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write the results."""
    given = arguments(__doc__)
    with folder_of(given) as folder:
        facts = files(folder, given.quick)
        builders = [
            builder
            for builder in BUILDERS
            if builder.system not in given.without
            and python_of(builder.system) is not None
            and (not given.only or given.only in builder.name)
        ]
        about = machine()
        found = in_turns(builders, folder, facts["count"], given.runs)
    about["load_at_end"] = os.getloadavg()[0]
    size_kb = facts["bytes"] / facts["count"] / 1000
    text = (
        f"{about['date']}, {about['cpu']}, {about['cores']} cores, load {about['load_at_start']:.1f} to "
        f"{about['load_at_end']:.1f}, {facts['count']:,} JPEG files of {size_kb:.1f} KB, {given.runs} runs "
        f"each in turns\nasked for: {TARGET:g}x less CPU per sample than LitData, start-up with 2 workers "
        f"under {TARGET_STARTUP_S} s, stored at most {TARGET_STORED} of the payload\n\n" + table(found)
    )
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "data-build.txt").write_text(text + "\n")
    result = {"machine": about, "runs": given.runs, "data": facts, "builders": found}
    (given.out / "data-build.json").write_text(json.dumps(result, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
