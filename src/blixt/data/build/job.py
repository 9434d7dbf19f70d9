"""The notebook of a running `optimize`: which units are done, on disk, so that a broken run goes on.

DIR/.build/job.json      what is being built; another job of the same shape resumes it
DIR/.build/lock          held by the running process; the kernel releases it however the process ends
DIR/.build/N.done        unit N is finished: its schema and shards
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self
from uuid import UUID, uuid4

from blixt.data.build.rolling import make_folder
from blixt.data.errors import BuildError, WriteError
from blixt.data.schema import Schema
from blixt.data.shard.write import ShardInfo
from blixt.data.snapshot import referenced_files


@dataclass(frozen=True, slots=True)
class Done:
    """A finished unit."""

    unit: int
    schema: Schema | None
    shards: tuple[ShardInfo, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as a `.done` file stores it."""
        schema = None if self.schema is None else self.schema.to_json()
        return {"unit": self.unit, "schema": schema, "shards": [shard.to_json() for shard in self.shards]}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Read a `.done` file."""
        schema = None if stored["schema"] is None else Schema.from_json(stored["schema"])
        return cls(stored["unit"], schema, tuple(ShardInfo.from_json(shard) for shard in stored["shards"]))


@dataclass(frozen=True, slots=True)
class JobDir:
    """The job's folder, held by this process."""

    root: Path
    dataset_id: UUID
    name: str
    unit_size: int
    lock: IO[str] | None

    @property
    def shards(self) -> Path:
        """Where the shards go."""
        return self.root / "shards"

    def shard_name(self, unit: int, number: int) -> str:
        """Return the name of a unit's n-th shard; the same after a retry, so a retry replaces it."""
        return f"{self.name}-{unit:06d}-{number:03d}.shard"

    def finish_unit(self, done: Done) -> None:
        """Record a finished unit."""
        write_atomically(self.root / ".build" / f"{done.unit}.done", json.dumps(done.to_json()))

    def finished(self) -> dict[int, Done]:
        """Return the units that are finished: noted as such, and their shards are there in full."""
        notes = [_read_json(path) for path in (self.root / ".build").glob("*.done")]
        units = [Done.from_json(note) for note in notes if note is not None]
        return {unit.unit: unit for unit in units if all(map(self._is_whole, unit.shards))}

    def _is_whole(self, shard: ShardInfo) -> bool:
        path = self.shards / shard.file
        return path.exists() and path.stat().st_size == shard.size_bytes

    def close(self) -> None:
        """Let another process build here; the finished units stay, half-written files go."""
        _remove_temporaries(self.root, self.name)
        if self.lock is not None:
            self.lock.close()

    def remove(self) -> None:
        """End the job: its shards are published, its notes are not needed any more."""
        shutil.rmtree(self.root / ".build")


def open_job(root: Path, fingerprint: str, unit_size: int, dataset_id: UUID | None, resume: bool) -> JobDir:
    """Start a job in the folder, or go on with one of the same fingerprint that broke off.

    Raises:
        BuildError: when another process is building here.
    """
    folder = root / ".build"
    make_folder(root / "shards")
    lock = _lock(root, folder)
    notes: dict[str, Any] | None = _read_json(folder / "job.json")
    if notes is not None and not (resume and notes["fingerprint"] == fingerprint):
        _discard(root, folder, notes["name"])
        notes = None
    if notes is not None:
        _remove_temporaries(root, notes["name"])
    else:
        notes = {
            "fingerprint": fingerprint,
            "name": uuid4().hex[:12],
            "unit_size": unit_size,
            "dataset_id": str(dataset_id or uuid4()),
        }
        write_atomically(folder / "job.json", json.dumps(notes))
    return JobDir(root, UUID(notes["dataset_id"]), notes["name"], notes["unit_size"], lock)


def fingerprint(fn: Callable[..., Any], inputs: Sequence[Any], chunk_bytes: int, base_version: int) -> str:
    """Name a job by its inputs, its function's name and its settings; equal jobs resume each other."""
    digest = hashlib.sha256()
    name = getattr(fn, "__qualname__", type(fn).__qualname__)
    digest.update(f"{name} {len(inputs)} {chunk_bytes} {base_version}".encode())
    for item in inputs:
        text = repr(item)
        digest.update((type(item).__qualname__ if " at 0x" in text else text).encode() + b"\0")
    return digest.hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Give a file its new content all at once.

    Raises:
        WriteError: when the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text)
        os.rename(temporary, path)
    except OSError as problem:
        temporary.unlink(missing_ok=True)
        raise WriteError(f"cannot write {path}: {problem.strerror}; make room, then run again") from problem


def _remove_temporaries(root: Path, name: str) -> None:
    """Delete the files that a worker of the job was writing when it ended."""
    for temporary in [*(root / ".build").glob(".*.tmp"), *(root / "shards").glob(f".{name}-*.tmp")]:
        temporary.unlink(missing_ok=True)


def _lock(root: Path, folder: Path) -> IO[str]:
    """Take the folder's lock; one that a job which just ended has deleted meanwhile is no lock any more."""
    path = folder / "lock"
    while True:
        make_folder(folder)
        lock = open(path, "a+")  # noqa: SIM115  held open for as long as the job runs
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise BuildError(
                f"another process is building {root}; wait for it or choose another output folder"
            ) from None
        if path.exists() and os.path.samestat(path.stat(), os.fstat(lock.fileno())):
            return lock
        lock.close()


def _read_json(path: Path) -> dict[str, Any] | None:
    """Return a note, or None when there is none or a power cut left it torn."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _discard(root: Path, folder: Path, name: str) -> None:
    """Remove what an abandoned job left, but no shard that a version names (it may have just published)."""
    published = referenced_files(root)
    shards = [path for path in (root / "shards").glob(f"{name}-*.shard") if path.name not in published]
    for path in [*folder.glob("*.done"), folder / "job.json", *shards]:
        path.unlink(missing_ok=True)
