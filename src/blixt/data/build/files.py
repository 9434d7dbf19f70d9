"""Files that a function wrote: to the output, and none is seen there half-written."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blixt.data.errors import WriteError
from blixt.data.store import Store


def deliver(folder: Path, store: Store, uploaders: int) -> tuple[str, ...]:
    """Move all files of a folder to the store, one that is there is replaced; return their names.

    Raises:
        WriteError, StoreError: when the output refuses.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    names = tuple(path.relative_to(folder).as_posix() for path in files)
    if store.local is not None:
        for file, name in zip(files, names, strict=True):
            _move(file, store.local / name)
        return names
    with ThreadPoolExecutor(uploaders, "blixt-upload") as threads:
        for sent in [threads.submit(_send, store, *pair) for pair in zip(names, files, strict=True)]:
            sent.result()
    return names


def _send(store: Store, name: str, file: Path) -> None:
    store.put_file(name, file)
    file.unlink()


def _move(file: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)
    except OSError as problem:
        raise WriteError(
            f"cannot write {target}: {problem.strerror}; make room or choose another folder, then run again"
        ) from problem


def device_of(worker: int) -> str:
    """Return the device for a worker: the GPUs of this machine in turn, or the CPU.

    Example:
        >>> device_of(0) in ("cpu", "cuda:0")
        True
    """
    count = _gpus()
    return f"cuda:{worker % count}" if count else "cpu"


def _gpus() -> int:
    """Count the GPUs that this process may use, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdecimal()])
