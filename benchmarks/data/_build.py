"""One build of a dataset from JPEG files by one system, in a process of its own; see `build`.

The sample is the same for all: the file's bytes and a number.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.data._measure import cpu_seconds


def sample(path: str) -> dict[str, Any]:
    """Read a file."""
    with open(path, "rb") as file:
        return {"image": file.read(), "label": len(path)}


def blixt(paths: list[str], out: Path, workers: int) -> None:
    from blixt.data import optimize

    optimize(sample, paths, out, num_workers=workers, chunk_bytes="64MB", verbose=False)


def blixt_writer(paths: list[str], out: Path, workers: int) -> None:
    from blixt.data import DatasetWriter

    with DatasetWriter(out, chunk_bytes="64MB") as writer:
        for path in paths:
            writer.write(sample(path))


def litdata(paths: list[str], out: Path, workers: int) -> None:
    from litdata import optimize

    optimize(
        fn=sample, inputs=paths, output_dir=str(out), num_workers=workers, chunk_bytes="64MB", verbose=False
    )


def mosaic(paths: list[str], out: Path, workers: int) -> None:
    from streaming import MDSWriter

    columns = {"image": "bytes", "label": "int"}
    with MDSWriter(out=str(out), columns=columns, size_limit="64mb", progress_bar=False) as writer:
        for path in paths:
            writer.write(sample(path))


def webdataset(paths: list[str], out: Path, workers: int) -> None:
    from webdataset import ShardWriter

    out.mkdir(parents=True)
    with ShardWriter(str(out / "%06d.tar"), maxsize=64_000_000, maxcount=10**9, verbose=0) as writer:
        for index, path in enumerate(paths):
            one = sample(path)
            writer.write({"__key__": f"{index:08d}", "jpg": one["image"], "cls": one["label"]})


SYSTEMS = {
    "blixt": blixt,
    "blixt_writer": blixt_writer,
    "litdata": litdata,
    "mosaic": mosaic,
    "webdataset": webdataset,
}


def main() -> None:
    """Build what the command line says and print what it took."""
    system, folder, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    paths = sorted(str(path) for path in (folder / "jpegs").iterdir())[: options["count"]]
    out = folder / f"built-{system}"
    shutil.rmtree(out, ignore_errors=True)
    before, start = cpu_seconds(), time.perf_counter()
    SYSTEMS[system](paths, out, options["workers"])
    wall = time.perf_counter() - start
    stored = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    shutil.rmtree(out, ignore_errors=True)
    payload = sum(os.path.getsize(path) + 8 for path in paths)
    result = {"samples": len(paths), "wall_s": wall, "cpu_before_s": before, "stored": stored / payload}
    print("RESULT " + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
