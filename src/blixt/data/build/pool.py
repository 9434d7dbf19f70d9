"""Worker processes that each run one unit at a time; a killed worker costs its unit another attempt."""

import multiprocessing
import pickle
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from blixt.data.build.job import Done, JobDir
from blixt.data.build.worker import Unit, run_unit, work
from blixt.data.errors import BuildError
from blixt.data.schema import Schema

MAX_ATTEMPTS = 3
_STOP_TIMEOUT_S = 5.0
_CANNOT_TRAVEL = (pickle.PicklingError, AttributeError, TypeError)
MakeUnit = Callable[[int, Schema | None], Unit]


def run_inline(
    fn: Callable[[Any], Any],
    job: JobDir,
    chunk_bytes: int,
    units: list[int],
    make: MakeUnit,
    schema: Schema | None,
) -> Iterator[Done]:
    """Run the units in this process, in order."""
    for number in units:
        done = run_unit(fn, job, chunk_bytes, make(number, schema))
        schema = schema or done.schema
        yield done


class Pool:
    """A fixed number of workers over a queue of units.

    The first unit to finish fixes the schema for those that start later; workers that began earlier inferred
    their own, which the commit compares.
    """

    def __init__(self, fn: Callable[[Any], Any], job: JobDir, chunk_bytes: int, num_workers: int) -> None:
        self._arguments = (fn, _without_lock(job), chunk_bytes)
        self._num_workers = num_workers
        self._context = _context()
        self._workers: dict[Connection, _Worker] = {}

    def run(self, units: list[int], make: MakeUnit, schema: Schema | None) -> Iterator[Done]:
        """Yield each unit as it is done, in any order.

        Raises:
            BuildError: when the function or an input cannot be sent to a worker, when the function fails, and
                when a unit kills its workers again and again.
        """
        waiting = deque(units)
        attempts = dict.fromkeys(units, 0)
        try:
            for _ in range(min(self._num_workers, len(units))):
                self._start()
            while waiting or any(worker.unit is not None for worker in self._workers.values()):
                for worker in self._next_events():
                    outcome = worker.receive()
                    if isinstance(outcome, Done):
                        schema = schema or outcome.schema
                        worker.unit = None
                        yield outcome
                    elif outcome is None:
                        self._replace(worker, waiting, attempts)
                        continue
                    elif isinstance(outcome, Exception):
                        raise outcome
                    if waiting:
                        worker.send(make(waiting.popleft(), schema))
        finally:
            self._stop()

    def _start(self) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(theirs, *self._arguments), daemon=True)
        try:
            process.start()
        except _CANNOT_TRAVEL as problem:
            raise BuildError(
                f"the function cannot be sent to a worker process ({problem}); "
                "define it at the top level of a module, or use num_workers=0"
            ) from None
        theirs.close()
        self._workers[ours] = _Worker(ours, process)

    def _next_events(self) -> list["_Worker"]:
        return [self._workers[pipe] for pipe in wait(list(self._workers)) if isinstance(pipe, Connection)]

    def _replace(self, worker: "_Worker", waiting: deque[int], attempts: dict[int, int]) -> None:
        """A worker died: give its unit back and start another one in its place."""
        del self._workers[worker.pipe]
        worker.stop()
        exit_code = worker.process.exitcode
        if not worker.ready:
            raise BuildError(
                f"a worker process could not start (exit code {exit_code}, its own message is above); "
                "a script that calls optimize() must do so under `if __name__ == '__main__':`"
            )
        if worker.unit is not None:
            attempts[worker.unit] += 1
            if attempts[worker.unit] >= MAX_ATTEMPTS:
                raise BuildError(
                    f"unit {worker.unit} killed its worker {MAX_ATTEMPTS} times (exit code {exit_code}; -9 "
                    "is often a lack of memory); finished units are kept: run the same call again to go on"
                )
            waiting.appendleft(worker.unit)
        self._start()

    def _stop(self) -> None:
        for worker in self._workers.values():
            worker.process.terminate()
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()


class _Worker:
    """The parent's end of one worker process."""

    def __init__(self, pipe: Connection, process: BaseProcess) -> None:
        self.pipe = pipe
        self.process = process
        self.ready = False
        self.unit: int | None = None

    def send(self, unit: Unit) -> None:
        """Hand over a unit; a worker that is gone shows when its answer is read."""
        self.unit = unit.number
        try:
            self.pipe.send(unit)
        except (BrokenPipeError, ConnectionResetError):
            return
        except _CANNOT_TRAVEL as problem:
            last = unit.first_input + len(unit.inputs) - 1
            raise BuildError(
                f"inputs {unit.first_input} to {last} cannot be sent to a worker process ({problem}); "
                "pass names or paths and open them in the function, or use num_workers=0"
            ) from None

    def receive(self) -> Any:
        """Return what the worker said, or None when it is gone."""
        try:
            message = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            return None
        self.ready = True
        return message

    def stop(self) -> None:
        """End the process and give back what it holds."""
        self.pipe.close()
        self.process.join(_STOP_TIMEOUT_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _context() -> Any:
    """Return forkserver where it exists (start up once for all), else spawn; fork would copy threads."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["blixt.data.build.worker"])
    return context


def _without_lock(job: JobDir) -> JobDir:
    """The lock is the parent's; an open file does not travel."""
    return JobDir(job.root, job.dataset_id, job.name, job.unit_size, None)
