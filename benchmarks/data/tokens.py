"""Token blocks: blixt against a plain memmap in torch's DataLoader, and LitData where it is installed.

    python benchmarks/data/tokens.py [--tokens 50000000] [--runs 5] [--out benchmarks/data/results]

Each run is a fresh process that reads one shuffled epoch of blocks of 2,048 (+1) uint16 tokens as int64
batches of 64. Competitors take turns. Reported: median and spread of tokens per CPU second (user + system, of
the process and its workers, opening the data included, imports not) and per wall second, and the ratio to the
memmap.
"""

import argparse
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

BLOCK, BATCH, SHARDS = 2048, 64, 8


def make_data(folder: Path, tokens: int) -> None:
    """Write the same Zipf-like tokens for every competitor."""
    from blixt.data import DatasetWriter

    rng = np.random.default_rng(0)
    ids = (rng.zipf(1.2, tokens) % 50_000).astype(np.uint16)
    ids.tofile(folder / "tokens.bin")
    with DatasetWriter(folder / "blixt", chunk_bytes=ids.nbytes // SHARDS) as writer:
        for document in np.array_split(ids, SHARDS * 100):
            writer.write(document)
    if importlib.util.find_spec("litdata"):
        from functools import partial

        from litdata import TokensLoader, optimize

        optimize(
            partial(litdata_document, folder / "tokens.bin", SHARDS),
            list(range(SHARDS)),
            str(folder / "litdata"),
            chunk_size=(ids.size // SHARDS // (BLOCK + 1) + 1) * (BLOCK + 1),
            item_loader=TokensLoader(block_size=BLOCK + 1),
            num_workers=1,
        )


def litdata_document(path: Path, parts: int, part: int) -> Any:
    import torch

    return torch.from_numpy(np.array_split(np.fromfile(path, np.uint16), parts)[part].astype(np.int32))


def read_blixt(folder: Path, workers: int) -> Iterator[Any]:
    from blixt.data import TokenDataset
    from blixt.data.torch import DataLoader

    return iter(DataLoader(TokenDataset(folder / "blixt", BLOCK, shuffle=True), BATCH, num_workers=workers))


def read_blixt_in_torch(folder: Path, workers: int) -> Iterator[Any]:
    from torch.utils.data import DataLoader

    from blixt.data import TokenDataset

    return iter(
        DataLoader(
            TokenDataset(folder / "blixt", BLOCK), BATCH, shuffle=True, num_workers=workers, drop_last=True
        )
    )


def read_memmap(folder: Path, workers: int) -> Iterator[Any]:
    from torch.utils.data import DataLoader

    return iter(DataLoader(Memmap(folder), BATCH, shuffle=True, num_workers=workers, drop_last=True))


class Memmap:
    """What people write by hand: one flat file, one slice per item."""

    def __init__(self, folder: Path) -> None:
        self.tokens = np.memmap(folder / "tokens.bin", np.uint16, "r")

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // BLOCK

    def __getitem__(self, index: int) -> Any:
        return self.tokens[index * BLOCK : index * BLOCK + BLOCK + 1].astype(np.int64)


def read_litdata(folder: Path, workers: int) -> Iterator[Any]:
    from litdata import StreamingDataLoader, StreamingDataset, TokensLoader

    dataset = StreamingDataset(str(folder / "litdata"), item_loader=TokensLoader(BLOCK + 1), shuffle=True)
    return iter(StreamingDataLoader(dataset, batch_size=BATCH, num_workers=workers, drop_last=True))


READERS: dict[str, Callable[[Path, int], Iterator[Any]]] = {
    "memmap + DataLoader": read_memmap,
    "blixt": read_blixt,
    "blixt in torch's DataLoader": read_blixt_in_torch,
    "litdata": read_litdata,
}


def cpu_seconds() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def measure(name: str, folder: Path, workers: int) -> dict[str, float]:
    """Read one epoch in this process; what a reader imports is imported before the clock starts."""
    import torch.utils.data

    importlib.import_module("litdata" if name == "litdata" else "blixt.data.torch")
    torch.set_num_threads(1)
    cpu, wall = cpu_seconds(), time.perf_counter()
    tokens = sum(batch.shape[0] * BLOCK for batch in READERS[name](folder, workers))
    return {"tokens": tokens, "cpu_s": cpu_seconds() - cpu, "wall_s": time.perf_counter() - wall}


def measure_in_fresh_process(name: str, folder: Path, workers: int) -> dict[str, float]:
    command = [
        sys.executable,
        __file__,
        "--measure",
        name,
        "--folder",
        str(folder),
        "--workers",
        str(workers),
    ]
    return json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    )


def summarise(runs: list[dict[str, float]]) -> dict[str, Any]:
    per_cpu = [run["tokens"] / run["cpu_s"] / 1e6 for run in runs]
    per_wall = [run["tokens"] / run["wall_s"] / 1e6 for run in runs]
    return {
        "runs": len(runs),
        "mtokens_per_cpu_s": statistics.median(per_cpu),
        "mtokens_per_cpu_s_spread": [min(per_cpu), max(per_cpu)],
        "mtokens_per_s": statistics.median(per_wall),
        "mtokens_per_s_spread": [min(per_wall), max(per_wall)],
    }


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown CPU"
    )
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def compare(tokens: int, runs: int, worker_counts: list[int], out: Path) -> None:
    names = [name for name in READERS if name != "litdata" or importlib.util.find_spec("litdata")]
    result: dict[str, Any] = {
        "machine": machine(),
        "tokens": tokens,
        "block": BLOCK,
        "batch": BATCH,
        "rows": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder), tokens)
        for workers in worker_counts:
            measured: dict[str, list[dict[str, float]]] = {name: [] for name in names}
            for _ in range(runs):
                for name in names:
                    measured[name].append(measure_in_fresh_process(name, Path(folder), workers))
            result["rows"][f"{workers} workers"] = {name: summarise(measured[name]) for name in names}
    text = report(result)
    print(text)
    out.mkdir(parents=True, exist_ok=True)
    (out / "tokens.json").write_text(json.dumps(result, indent=1))
    (out / "tokens.txt").write_text(text + "\n")


def report(result: dict[str, Any]) -> str:
    facts = result["machine"]
    lines = [
        f"{facts['cpu']}, {facts['cores']} cores, load {facts['load']:.1f}, Python {facts['python']}",
        f"{result['tokens']:,} uint16 tokens, blocks of {BLOCK} as int64, batch {BATCH}, shuffled, cached",
    ]
    for row, readers in result["rows"].items():
        base = readers["memmap + DataLoader"]
        lines.append(f"\n{row:<28} Mtok/CPU-s (min-max)      ratio   Mtok/s (min-max)          ratio")
        for name, found in readers.items():
            cells = [cell(found, base, key) for key in ("mtokens_per_cpu_s", "mtokens_per_s")]
            lines.append(f"{name:<28} {cells[0]}   {cells[1]}")
    return "\n".join(lines)


def cell(found: dict[str, Any], base: dict[str, Any], key: str) -> str:
    low, high = found[f"{key}_spread"]
    return f"{found[key]:8.1f} ({low:.0f}-{high:.0f})".ljust(24) + f"{found[key] / base[key]:6.2f}x"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=50_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--measure", choices=READERS)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.folder, arguments.workers[0])))
    else:
        compare(arguments.tokens, arguments.runs, arguments.workers, arguments.out)
