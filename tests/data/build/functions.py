"""Functions that workers run; they are here because importing this file is cheap."""

import ctypes
import json
import os
import signal
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from blixt.data import ALL_DONE, DataError, Leases, optimize


def number(i: int) -> dict[str, int]:
    return {"x": i}


def as_it_is(item: Any) -> Any:
    return item


def sums(items: list[int]) -> dict[str, int]:
    return {"x": sum(items), "count": len(items)}


def file_name(path: str) -> dict[str, Any]:
    return {"name": os.path.basename(path), "size": os.path.getsize(path)}


def rows_of(table: Any) -> Iterator[dict[str, Any]]:
    yield from table.to_pylist()


def batch_sum(batch: dict[str, Any]) -> dict[str, int]:
    return {"x": int(batch["x"].sum())}


def produce(queue: Any, count: int) -> None:
    for i in range(count):
        queue.put(i)
    queue.put(ALL_DONE)


def crash(how: str, i: int) -> dict[str, int]:
    """Go wrong at input 12 in one of the ways in which a function can take its process with it."""
    if i == 12:
        if how == "segfault":
            ctypes.string_at(0)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "exit":
            os._exit(3)
        if how == "sys.exit":
            sys.exit(3)
        if how == "hang":
            threading.Event().wait()
    return {"x": i}


def crash_once(how: str, mark: Path, i: int) -> dict[str, int]:
    if i == 12 and not mark.exists():
        mark.touch()
        return crash(how, i)
    return {"x": i}


def sized(blob: bytes, i: int) -> dict[str, int]:
    return {"x": i + len(blob)}


def noted(folder: Path, i: int) -> dict[str, int]:
    """Leave a line for each call."""
    with open(folder / "calls", "a") as calls:
        calls.write(f"{i}\n")
    return {"x": i}


def noted_unless_broken(folder: Path, bad: int, i: int) -> dict[str, int]:
    """Leave a line for each call; input `bad` fails until a file `mended` is there."""
    sample = noted(folder, i)
    if i == bad and not (folder / "mended").exists():
        raise ValueError("broken")
    return sample


def number_of(text: str) -> dict[str, int]:
    return {"x": int(text)}


def write_text(i: int, output_dir: str) -> None:
    Path(output_dir, f"{i:03d}.txt").write_text(f"text {i}")


def write_below(i: int, output_dir: str) -> None:
    folder = Path(output_dir, str(i % 3), "deep")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{i}.bin").write_bytes(bytes(i))


def write_device(i: int, output_dir: str, device: str) -> None:
    Path(output_dir, f"{i}.txt").write_text(device)


def write_repr(item: Any, output_dir: str) -> None:
    """Write what an input is to a file with a name of its own."""
    text = repr(item)
    Path(output_dir, f"{zlib.crc32(text.encode()):08x}.txt").write_text(text)


class Gather:
    """Sums up a unit and writes the sum with its last input."""

    def __init__(self) -> None:
        self.total = 0

    def __call__(self, i: int, output_dir: str, is_last: bool) -> None:
        self.total += i
        if is_last:
            Path(output_dir, f"until-{i}.txt").write_text(str(self.total))
            self.total = 0


def write_some_and_fail(folder: Path, i: int, output_dir: str) -> None:
    noted(folder, i)
    write_text(i, output_dir)
    if i == 7 and not (folder / "mended").exists():
        raise ValueError("broken")


def copy_below(prefix: str, path: str, output_dir: str) -> None:
    """Write where the input lay and what it held."""
    Path(output_dir, os.path.basename(path)).write_bytes(prefix.encode() + Path(path).read_bytes())


def wait_at(folder: Path, places: dict[int, str], i: int) -> dict[str, int]:
    """Leave a line for each call; before some inputs wait until a file of a name is there."""
    sample = noted(folder, i)
    deadline = time.monotonic() + 60
    while i in places and not (folder / places[i]).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return sample


def main(call: str) -> None:
    """Run one `optimize` in a process of its own: JSON arguments, answers with version and rows."""
    arguments = json.loads(call)
    executor: Any = arguments.pop("executor")
    if isinstance(executor, dict):
        executor = Leases(**executor)
    folder, places = arguments.pop("folder"), arguments.pop("places", {})
    fn: Any = partial(wait_at, Path(folder), {int(place): name for place, name in places.items()})
    if "bad" in arguments:
        fn = partial(noted_unless_broken, Path(folder), arguments.pop("bad"))
    inputs = range(*arguments.pop("inputs"))
    try:
        snapshot = optimize(fn, inputs, executor=executor, **arguments)
    except DataError as problem:
        sys.exit(f"{type(problem).__name__}: {problem}")
    print(json.dumps({"version": snapshot.version, "rows": snapshot.rows}))


if __name__ == "__main__":
    main(sys.argv[1])
