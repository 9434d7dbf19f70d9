"""Machines that come and go share the units by leases in the output store; a dead one's units are taken over.

.build/KEY/leases/UNIT.GENERATION   created exclusively by who takes the unit; names its holder
.build/KEY/beats/HOLDER             rewritten by the holder while it lives
"""

import json
import os
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from uuid import uuid4

from blixt.data.build.executors.base import Executor, Hands
from blixt.data.build.executors.ranks import run_id_of
from blixt.data.build.feed import Feed
from blixt.data.build.job import Done, Job
from blixt.data.build.owner import Owner
from blixt.data.build.task import Task
from blixt.data.errors import DataError
from blixt.data.schema import Schema
from blixt.data.store import NotFoundError


class Leases(Executor):
    """Any number of processes make the same call, at any time; each takes a unit whenever it has a free hand.

    A holder whose beat does not change for `ttl_s` (by the clock of the one who looks: clocks need not
    agree) is taken for dead and its units are done by others. Should it live after all, whichever attempt
    notes its unit first counts.

    Args:
        ttl_s: how long a holder may be silent.
        machines: how many processes to expect, for the size of units.
        run_id: names this run, so that a process that is started after the end of the build returns what
            was published instead of building once more; from Slurm or torchrun when None.
    """

    shared = True

    def __init__(self, ttl_s: float = 30.0, machines: int = 4, run_id: str | None = None) -> None:
        self.ttl_s = ttl_s
        self.machines = machines
        self.run_id = run_id or run_id_of(os.environ)
        self.holder = uuid4().hex[:12]
        self._beat: _Beat | None = None
        self._latest: dict[int, _Lease] = {}
        self._alive: dict[str, _Sign] = {}

    def claim(self, job: Job, missing: Collection[int]) -> int | None:
        """Take a unit that nobody holds, or one whose holder is dead."""
        if self._beat is None:
            self._beat = _Beat(job, self.holder, self.ttl_s / 3)
        for number in missing:
            if number not in self._latest and self._take(job, number, 1):
                return number
        self._look(job)
        for number in missing:
            lease = self._latest.get(number)
            if lease is None or not lease.holder or self._lives(job, lease.holder):
                continue
            if self._take(job, number, lease.generation + 1):
                return number
        return None

    def run(self, task: Task, feed: Feed, schema: Schema | None, hands: Hands) -> Iterator[Done]:
        """Do the units in worker processes of this machine."""
        return hands.run(task, feed, schema)

    def finish(self, job: Job, failure: BaseException | None) -> None:
        """Stop the beat: what is still held is free for others at once."""
        if self._beat is not None:
            self._beat.stop()

    def _take(self, job: Job, number: int, generation: int) -> bool:
        """Try to create the lease; the one who does has the unit, unless it was finished meanwhile."""
        path = f"{job.folder}/leases/{number:08d}.{generation:04d}"
        won = job.store.put_if_absent(path, json.dumps({"holder": self.holder}).encode())
        self._latest[number] = _Lease(generation, self.holder if won else "")  # whose, `_look` finds out
        if won and not job.exists():
            # The build was published, its leases removed and its note before them: there is nothing to do.
            job.store.delete(path)
            return False
        return won and (generation == 1 or not job.is_finished(number))

    def _look(self, job: Job) -> None:
        """Learn the newest lease of each unit."""
        for path, _ in job.store.list(f"{job.folder}/leases"):
            unit, _, generation = path.rpartition("/")[2].partition(".")
            known = self._latest.get(int(unit))
            if known is None or known.generation < int(generation) or not known.holder:
                holder = self._holder_of(job, path)
                if holder is not None:
                    self._latest[int(unit)] = _Lease(int(generation), holder)

    def _holder_of(self, job: Job, path: str) -> str | None:
        try:
            return json.loads(job.store.get(path))["holder"]
        except NotFoundError:
            return None

    def _lives(self, job: Job, holder: str) -> bool:
        """Whether a holder's beat changed within `ttl_s` of this process's own clock."""
        if holder == self.holder:
            return True
        try:
            beat = job.store.get(f"{job.folder}/beats/{holder}")
        except NotFoundError:
            return False
        if Owner.from_json(json.loads(beat)["owner"]).is_dead():
            return False
        now, sign = time.monotonic(), self._alive.get(holder)
        if sign is None or sign.beat != beat:
            self._alive[holder] = _Sign(beat, now)
            return True
        return now - sign.since <= self.ttl_s


@dataclass(frozen=True, slots=True)
class _Lease:
    generation: int
    holder: str


@dataclass(frozen=True, slots=True)
class _Sign:
    """A beat, and since when it has been the same."""

    beat: bytes
    since: float


class _Beat:
    """A thread that rewrites this holder's beat until it is told to stop."""

    def __init__(self, job: Job, holder: str, every_s: float) -> None:
        self._job = job
        self._path = f"{job.folder}/beats/{holder}"
        self._every_s = every_s
        self._stopped = threading.Event()
        self._count = 0
        self._write()
        self._thread = threading.Thread(target=self._run, name="blixt-lease", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._job.store.delete(self._path)

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                self._write()
            except DataError:
                continue

    def _write(self) -> None:
        """A beat that cannot be written is missed; the next one may be in time."""
        self._count += 1
        beat = {"owner": Owner.current().to_json(), "count": self._count}
        self._job.store.put(self._path, json.dumps(beat).encode())
