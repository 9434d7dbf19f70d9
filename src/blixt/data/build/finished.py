"""The units of a job that are finished, read from their notes."""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from blixt.data.build.job import Done, Job
from blixt.data.build.units import PlannedUnits
from blixt.data.store import NotFoundError

_READ_AT_ONCE = 16


class Finished:
    """The units of a job that are finished, as far as this process has looked.

    Args:
        job: the job.

    Attributes:
        by_unit: the finished units by their numbers.
        inputs: how many inputs they have together.
    """

    def __init__(self, job: Job) -> None:
        self.by_unit: dict[int, Done] = {}
        self.inputs = 0
        self._job = job
        self._notes: set[str] = set()

    def add(self, done: Done) -> None:
        """Record a unit that this process finished itself."""
        if done.unit not in self.by_unit:
            self.inputs += done.count
        self.by_unit[done.unit] = done

    def refresh(self) -> None:
        """Read the notes that are new since the last look; one whose shards are not all there is undone."""
        folder = f"{self._job.folder}/done"
        fresh = [path for path, _ in self._job.store.list(folder) if path not in self._notes]
        fresh = [path for path in fresh if _number(path) not in self.by_unit]
        for path, done in zip(fresh, self._map(self._read, fresh), strict=True):
            if done is None:
                self._job.forget_unit(_number(path))
            else:
                self._notes.add(path)
                self.add(done)

    def check(self, units: PlannedUnits) -> None:
        """Forget the units whose inputs are not the ones they were made of, and those that are no more."""
        for number, done in list(self.by_unit.items()):
            if number >= len(units) or units[number].digest != done.digest:
                self.drop(number)

    def drop(self, number: int) -> None:
        """Undo a unit."""
        self._job.forget_unit(number)
        self._notes.discard(self._job.note_of(number))
        self.inputs -= self.by_unit.pop(number).count

    def _read(self, path: str) -> Done | None:
        try:
            done = Done.from_json(json.loads(self._job.store.get(path)))
        except (NotFoundError, ValueError, KeyError):
            return None
        whole = all(self._job.store.size(f"shards/{shard.file}") == shard.size_bytes for shard in done.shards)
        return done if whole else None

    def _map(self, read: Any, paths: list[str]) -> Iterable[Done | None]:
        if self._job.store.local is not None or len(paths) < 2:
            return map(read, paths)
        with ThreadPoolExecutor(_READ_AT_ONCE) as threads:
            return list(threads.map(read, paths))


def _number(path: str) -> int:
    return int(Path(path).stem)
