"""Bring a job to its end: have the units done that are not, by whoever does them."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from blixt.data.build.executors import Executor, Hands
from blixt.data.build.feed import AwaitedFeed, PlannedFeed
from blixt.data.build.finished import Finished
from blixt.data.build.job import Done, Job
from blixt.data.build.peers import Peers
from blixt.data.build.progress import Report
from blixt.data.build.task import Task
from blixt.data.build.units import PlannedUnits, Unit, Units
from blixt.data.errors import BuildError
from blixt.data.schema import Schema

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True)
class Engine:
    """Everything that running a job needs.

    Attributes:
        job: the job.
        task: what is done with each unit.
        units: all units.
        executor: who does them.
        hands: the processes of this machine.
        schema: the columns that are asked for; None infers them.
        wait_s: how long to wait for other machines that make no progress.
        report: told of progress.
    """

    job: Job
    task: Task
    units: Units
    executor: Executor
    hands: Hands
    schema: Schema | None
    wait_s: float
    report: Report

    def run(self) -> Finished | None:
        """Return the finished units; None when another machine has published them meanwhile."""
        finished = Finished(self.job)
        finished.refresh()
        if isinstance(self.units, PlannedUnits):
            return finished if self._run_planned(self.units, finished) else None
        self._run_streamed(finished)
        return finished

    def _run_planned(self, units: PlannedUnits, finished: Finished) -> bool:
        if not self.job.shared:
            finished.check(units)
        peers = Peers(self.job, self.executor)
        pause_s, since = _FIRST_PAUSE_S, time.monotonic()
        while missing := dict.fromkeys(n for n in range(len(units)) if n not in finished.by_unit):
            self._report(finished)
            before = len(finished.by_unit)
            for done in self.executor.run(
                self.task, PlannedFeed(self._claimed(units, missing)), self._schema(finished), self.hands
            ):
                finished.add(done)
                self._report(finished)
            if self.job.shared:
                finished.refresh()
            if len(finished.by_unit) > before:
                pause_s, since = _FIRST_PAUSE_S, time.monotonic()
                continue
            if peers.have_published():
                return False
            peers.check(missing, time.monotonic() - since, self.wait_s)
            # Object stores tell nobody of a new note, so other machines' progress has to be looked for.
            threading.Event().wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        self._report(finished)
        return True

    def _claimed(self, units: PlannedUnits, missing: dict[int, None]) -> Iterator[Unit]:
        """Yield units that the executor lets this process do, each when a worker is free for it."""
        unclaimed = dict(missing)
        while unclaimed and (number := self.executor.claim(self.job, unclaimed)) is not None:
            del unclaimed[number]
            yield units[number]

    def _run_streamed(self, finished: Finished) -> None:
        stream = _Stream(self.units, finished)
        ahead = max(self.hands.workers, 1)
        feed = AwaitedFeed(stream, ahead) if self.hands.workers else PlannedFeed(stream)
        self._report(finished)
        for done in self.executor.run(self.task, feed, self._schema(finished), self.hands):
            finished.add(done)
            self._report(finished)
        if not stream.count:
            raise BuildError("there are no inputs, so there is nothing to write")
        for number in [number for number in finished.by_unit if number >= stream.count]:
            finished.drop(number)

    def _schema(self, finished: Finished) -> Schema | None:
        found = (done.schema for _, done in sorted(finished.by_unit.items()) if done.schema is not None)
        return self.schema or next(found, None)

    def _report(self, finished: Finished) -> None:
        self.report(finished.inputs, self.units.total)


class _Stream:
    """The units of a stream that are not done yet; a stream that gives the same again skips what is done."""

    def __init__(self, units: Units, finished: Finished) -> None:
        self.count = 0
        self._units = units
        self._earlier: dict[int, Done] = dict(finished.by_unit)
        self._finished = finished

    def __iter__(self) -> Iterator[Unit]:
        for unit in self._units:
            self.count += 1
            earlier = self._earlier.get(unit.number)
            if earlier is not None and earlier.digest == unit.digest:
                continue
            if earlier is not None:
                self._finished.drop(unit.number)
            yield unit
