"""Run one unit: call the user's function on each of its inputs and write what it gives to shards."""

import inspect
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from blixt.data.build.job import Done, JobDir
from blixt.data.build.rolling import RollingWriter
from blixt.data.errors import BuildError, DataError
from blixt.data.schema import Schema


@dataclass(frozen=True, slots=True)
class Unit:
    """A numbered run of inputs: the grain of order, retry and resume."""

    number: int
    first_input: int
    inputs: Sequence[Any]
    schema: Schema | None


def run_unit(fn: Callable[[Any], Any], job: JobDir, chunk_bytes: int, unit: Unit) -> Done:
    """Write a unit's samples and record it as done; running it again replaces what an attempt left.

    Raises:
        BuildError: when the function fails, naming the input.
        SchemaError, WriteError: when a sample does not fit or the disk refuses.
    """
    writer = RollingWriter(
        job.shards, lambda k: job.shard_name(unit.number, k), chunk_bytes, job.dataset_id, unit.schema
    )
    try:
        for index, item in enumerate(unit.inputs, unit.first_input):
            for number, sample in enumerate(_samples(fn, item, index)):
                writer.write(sample, f"input {index} ({_short(item)}), sample {number}")
        done = Done(unit.number, writer.schema, tuple(writer.close()))
        job.finish_unit(done)
    except BaseException:
        writer.remove()
        raise
    return done


def work(pipe: Connection, fn: Callable[[Any], Any], job: JobDir, chunk_bytes: int) -> None:
    """Serve units from the parent until it closes the pipe; the body of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe.send("ready")
    try:
        while True:
            unit: Unit = pipe.recv()
            try:
                pipe.send(run_unit(fn, job, chunk_bytes, unit))
            except DataError as problem:
                pipe.send(problem)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _samples(fn: Callable[[Any], Any], item: Any, index: int) -> Iterator[Any]:
    try:
        result = fn(item)
        if inspect.isgenerator(result):
            yield from result
            return
    except Exception as problem:
        failure = BuildError(f"input {index} ({_short(item)}): {type(problem).__name__}: {problem}")
        failure.add_note("".join(traceback.format_exception(problem)))
        raise failure from None
    if result is None:
        raise BuildError(
            f"input {index} ({_short(item)}): the function returned None; return a sample, "
            "or make it a generator, which may yield none"
        )
    yield result


def _short(item: Any) -> str:
    text = repr(item)
    return text if len(text) <= 80 else text[:77] + "..."
