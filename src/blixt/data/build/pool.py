"""Worker processes that each run one unit at a time; a killed or hung one costs its unit another attempt."""

import contextlib
import multiprocessing
import time
from collections import Counter, deque
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from blixt.data.build.feed import Feed
from blixt.data.build.job import Done
from blixt.data.build.settings import Patience
from blixt.data.build.task import BETWEEN, Task
from blixt.data.build.units import CANNOT_TRAVEL, Unit, unwrapped
from blixt.data.build.worker import READY, work
from blixt.data.errors import BuildError
from blixt.data.schema import Schema
from blixt.data.store import UnavailableError

START_METHODS = ("forkserver", "spawn", "fork")
_STOP_TIMEOUT_S = 5.0
_MAX_FALSE_STARTS = 5


def run_inline(task: Task, feed: Feed, schema: Schema | None) -> Iterator[Done]:
    """Run the units in this process, in order."""
    while (unit := feed.take()) is not None:
        done = task.run(unit, schema)
        schema = schema or done.schema
        yield done


class Pool:
    """A fixed number of workers over a feed of units.

    The first unit to finish fixes the schema for those that start later; workers that began earlier inferred
    their own, which the commit compares.

    Args:
        task: what the workers do; it travels to each of them once.
        num_workers: how many.
        patience: how often and how long a unit may go wrong.
        start_method: "forkserver", "spawn" or "fork".
    """

    def __init__(self, task: Task, num_workers: int, patience: Patience, start_method: str) -> None:
        self._task = task
        self._num_workers = num_workers
        self._patience = patience
        self._context = _context(start_method, task)
        self._places: Any = self._context.RawArray("q", [BETWEEN] * num_workers)
        self._slots = list(range(num_workers))
        self._workers: dict[Connection, _Worker] = {}
        self._again: deque[Unit] = deque()
        self._attempts: Counter[int] = Counter()
        self._false_starts = 0

    def run(self, feed: Feed, schema: Schema | None) -> Iterator[Done]:
        """Yield each unit as it is done, in any order.

        Raises:
            BuildError: when the function or an input cannot be sent to a worker, when the function fails, and
                when a unit kills or hangs its workers again and again.
        """
        try:
            while self._hand_out(feed, schema):
                for worker in self._events(feed):
                    outcome = worker.receive()
                    if outcome is None:
                        self._bury(worker)
                    elif isinstance(outcome, Done):
                        schema = schema or outcome.schema
                        worker.unit = None
                        yield outcome
                    elif isinstance(outcome, Exception):
                        self._fail(worker, outcome)
                    else:
                        self._false_starts = 0
        finally:
            feed.close()
            self._stop()

    def _hand_out(self, feed: Feed, schema: Schema | None) -> bool:
        """Give every idle worker a unit while there are any; return whether anything is left to wait for."""
        while self._has_idle():
            unit = self._again.popleft() if self._again else feed.take()
            if unit is None:
                break
            idle = next((worker for worker in self._workers.values() if worker.unit is None), None)
            worker = idle or self._start()
            worker.send(unit, schema)
        return not feed.exhausted or any(worker.unit is not None for worker in self._workers.values())

    def _has_idle(self) -> bool:
        return bool(self._slots) or any(worker.unit is None for worker in self._workers.values())

    def _start(self) -> "_Worker":
        slot = self._slots.pop()
        self._places[slot] = BETWEEN
        ours, theirs = self._context.Pipe()
        arguments = (theirs, self._task, self._places, slot)
        process = self._context.Process(target=work, args=arguments, daemon=True)
        try:
            _launch(process)
        except CANNOT_TRAVEL as problem:
            raise BuildError(
                f"the function cannot be sent to a worker process ({problem}); "
                "define it at the top level of a module, or use num_workers=0"
            ) from None
        theirs.close()
        worker = self._workers[ours] = _Worker(ours, process, slot)
        return worker

    def _events(self, feed: Feed) -> list["_Worker"]:
        """Wait until a worker has something to say, a unit has come, or it is time to look for a hung one."""
        listen: list[Any] = list(self._workers)
        if feed.wake is not None and self._has_idle() and not feed.exhausted:
            listen.append(feed.wake)
        limit = self._patience.timeout_s
        ready = wait(listen, None if limit is None else min(limit / 4, 1.0))
        if limit is not None:
            self._kill_hung(limit)
        return [self._workers[pipe] for pipe in ready if isinstance(pipe, Connection)]

    def _kill_hung(self, limit_s: float) -> None:
        """Kill workers that are in the same call for too long; their pipes tell of it."""
        now = time.monotonic()
        for worker in self._workers.values():
            place = self._places[worker.slot]
            if worker.unit is None or place == BETWEEN or (worker.unit.number, place) != worker.seen:
                worker.seen = (worker.unit.number, place) if worker.unit is not None else None
                worker.seen_at = now
            elif now - worker.seen_at > limit_s:
                worker.hung = True
                worker.process.kill()

    def _fail(self, worker: "_Worker", problem: Exception) -> None:
        """A unit failed in an orderly way: worth another attempt only when a store was not reachable."""
        unit, worker.unit = worker.unit, None
        if unit is None or not isinstance(problem, UnavailableError):
            raise problem
        self._attempts[unit.number] += 1
        if self._attempts[unit.number] >= self._patience.max_attempts:
            raise problem
        self._again.append(unit)

    def _bury(self, worker: "_Worker") -> None:
        """A worker is gone: its unit gets another attempt, by another worker."""
        del self._workers[worker.pipe]
        place = self._places[worker.slot]
        self._slots.append(worker.slot)
        worker.stop()
        code = worker.process.exitcode
        if not worker.ready:
            self._false_starts += 1
            if code == 1 or self._false_starts >= max(_MAX_FALSE_STARTS, self._patience.max_attempts):
                raise BuildError(
                    f"a worker process could not start (exit code {code}, its own message is above); "
                    "a script that calls optimize() must do so under `if __name__ == '__main__':`"
                )
        if worker.unit is None:
            return
        unit = worker.unit
        self._again.appendleft(unit)
        if worker.ready:
            self._attempts[unit.number] += 1
        if self._attempts[unit.number] >= self._patience.max_attempts:
            raise BuildError(self._last_words(unit, place, worker.hung, code))

    def _last_words(self, unit: Unit, place: int, hung: bool, code: int | None) -> str:
        where = "between two inputs" if place == BETWEEN else f"at {unit.describe(place)}"
        count = self._patience.max_attempts
        if hung:
            what = f"hung for more than {self._patience.timeout_s:g} s in each of {count} attempts"
        else:
            what = f"killed its worker {count} times (exit code {code}; -9 is often a lack of memory)"
        kept = "finished units are kept: run the same call again to go on"
        return f"unit {unit.number} {what}, last {where}; {kept}"

    def _stop(self) -> None:
        for worker in self._workers.values():
            worker.process.terminate()
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()


class _Worker:
    """The parent's end of one worker process."""

    def __init__(self, pipe: Connection, process: BaseProcess, slot: int) -> None:
        self.pipe = pipe
        self.process = process
        self.slot = slot
        self.ready = False
        self.unit: Unit | None = None
        self.seen: tuple[int, int] | None = None
        self.seen_at = 0.0
        self.hung = False

    def send(self, unit: Unit, schema: Schema | None) -> None:
        """Hand over a unit; a worker that is gone shows when its answer is read."""
        self.unit = unit
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send((unit, schema))

    def receive(self) -> Any:
        """Return what the worker said, or None when it is gone."""
        try:
            message = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            return None
        self.ready = self.ready or message == READY
        return message

    def stop(self) -> None:
        """End the process and give back what it holds."""
        self.pipe.close()
        self.process.join(_STOP_TIMEOUT_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _launch(process: BaseProcess) -> None:
    """Start a process; a forkserver that somebody killed is started anew by the next attempt."""
    for _ in range(_MAX_FALSE_STARTS - 1):
        try:
            return process.start()
        except (ConnectionError, EOFError, FileNotFoundError):
            continue
    process.start()


def _context(start_method: str, task: Task) -> Any:
    """Return the way to start workers; the forkserver imports what they share once for all."""
    if start_method not in multiprocessing.get_all_start_methods():
        start_method = "spawn"
    context = multiprocessing.get_context(start_method)
    if start_method == "forkserver":
        module = getattr(unwrapped(task.fn), "__module__", None) or "__main__"
        preload = ["blixt.data.build.worker", *([] if module == "__main__" else [module])]
        context.set_forkserver_preload(preload)
    return context
