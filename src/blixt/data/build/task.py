"""What is done with a unit: the function on each of its inputs, and what it gives written down."""

import inspect
import shutil
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from blixt.data.build.arrivals import arrivals
from blixt.data.build.files import deliver, device_of
from blixt.data.build.job import Done, Job
from blixt.data.build.output import ShardOutput
from blixt.data.build.scratch import scratch_folder
from blixt.data.build.settings import Layout, Transfer
from blixt.data.build.units import Reader, Unit, short
from blixt.data.errors import BuildError
from blixt.data.schema import Schema

BETWEEN = -1
"""The place of a worker that is not in the user's function."""
Place = Callable[[int], None]
"""Told the number of the input before the function is called on it, and `BETWEEN` afterwards."""


def nowhere(index: int) -> None:
    """A `Place` for those whom nobody watches."""


class Where:
    """Names a sample in an error; it becomes text only when there is one."""

    def __init__(self) -> None:
        self.index = 0
        self.item: Any = None
        self.sample = 0

    def __str__(self) -> str:
        return f"{self.input()}, sample {self.sample}"

    def input(self) -> str:
        """Name the input."""
        return f"input {self.index} ({short(self.item)})"


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A job's function with all that is needed to run it on a unit, in any process on any machine."""

    fn: Callable[..., Any]
    job: Job
    reader: Reader | None = None
    transfer: Transfer = field(default_factory=Transfer)

    def run(self, unit: Unit, schema: Schema | None, place: Place = nowhere) -> Done:
        """Do a unit and note it as done; what another attempt leaves is not in the way.

        Raises:
            BuildError: when the function fails, naming the input.
            SchemaError, WriteError, StoreError: when a sample does not fit, or the output is refused.
        """
        if self.job.store.local is not None and self.transfer.input_dir is None:
            return self._run(unit, schema, place, self.job.store.local)  # nothing is copied anywhere
        with scratch_folder(self.transfer.scratch) as scratch:
            return self._run(unit, schema, place, scratch)

    @abstractmethod
    def _run(self, unit: Unit, schema: Schema | None, place: Place, scratch: Path) -> Done: ...

    def _inputs(self, unit: Unit, scratch: Path) -> Generator[Any]:
        """Yield the unit's inputs, files of a store as local copies."""
        try:
            if unit.inputs is not None or self.reader is None:
                items = iter(unit.load())
            else:
                items = iter(self.reader.read(unit.first, unit.first + unit.count))
        except Exception as problem:
            last = unit.first + unit.count - 1
            raise _failure(f"inputs {unit.first} to {last} cannot be read", problem) from None
        return arrivals(items, self.transfer, scratch / "inputs")


@dataclass(frozen=True, kw_only=True)
class SamplesTask(Task):
    """The task of `optimize`: the function gives samples, which go to shards."""

    layout: Layout

    def _run(self, unit: Unit, schema: Schema | None, place: Place, scratch: Path) -> Done:
        attempt = uuid4().hex[:6]
        output = ShardOutput(
            self.job.store,
            lambda k: f"{self.job.name}-{unit.number:06d}-{attempt}-{k:03d}.shard",
            self.layout,
            self.job.dataset_id,
            schema,
            scratch / "shards",
            self.transfer.uploaders,
        )
        try:
            with closing(self._inputs(unit, scratch)) as inputs:
                self._write_all(unit, inputs, output, place)
            shards = output.close()
            columns = output.schema if shards else None
            done = Done(unit.number, unit.count, unit.digest, columns, shards, (), time.time())
            if not self.job.finish_unit(done):
                output.remove()
                return self.job.unit(unit.number) or done
        except BaseException:
            output.remove()
            raise
        return done

    def _write_all(self, unit: Unit, inputs: Iterator[Any], output: ShardOutput, place: Place) -> None:
        fn, write, where = self.fn, output.write, Where()
        isgenerator = inspect.isgenerator
        for index, item in enumerate(inputs, unit.first):
            where.index, where.item, where.sample = index, item, 0
            place(index)
            try:
                result = fn(item)
            except (Exception, SystemExit) as problem:
                raise _failure(where.input(), problem) from None
            if isgenerator(result):
                for sample in _guarded(result, where):
                    write(sample, where)
                    where.sample += 1
            elif result is None:
                raise BuildError(
                    f"{where.input()}: the function returned None; return a sample, "
                    "or make it a generator, which may yield none"
                )
            else:
                write(result, where)
            place(BETWEEN)


@dataclass(frozen=True, kw_only=True)
class FilesTask(Task):
    """The task of `map`: the function writes files into a folder, which then go to the output."""

    device: bool = False
    is_last: bool = False
    worker: int = 0

    def _run(self, unit: Unit, schema: Schema | None, place: Place, scratch: Path) -> Done:
        local = self.job.store.local
        parent = scratch if local is None else local / self.job.folder / "work"
        folder = parent / f"{unit.number:06d}-{uuid4().hex[:6]}"
        folder.mkdir(parents=True)
        try:
            with closing(self._inputs(unit, scratch)) as inputs:
                for index, item in enumerate(inputs, unit.first):
                    place(index)
                    try:
                        self.fn(item, str(folder), **self._extras(index == unit.first + unit.count - 1))
                    except (Exception, SystemExit) as problem:
                        raise _failure(f"input {index} ({short(item)})", problem) from None
                    place(BETWEEN)
            files = deliver(folder, self.job.store, self.transfer.uploaders)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        done = Done(unit.number, unit.count, unit.digest, None, (), files, time.time())
        won = self.job.finish_unit(done)
        return done if won else self.job.unit(unit.number) or done

    def _extras(self, last: bool) -> dict[str, Any]:
        extras: dict[str, Any] = {}
        if self.device:
            extras["device"] = device_of(self.worker)
        if self.is_last:
            extras["is_last"] = last
        return extras


def _guarded(samples: Iterator[Any], where: Where) -> Iterator[Any]:
    """Yield what the user's generator yields; its errors name the input, those of the writer pass."""
    while True:
        try:
            sample = next(samples)
        except StopIteration:
            return
        except (Exception, SystemExit) as problem:
            raise _failure(where.input(), problem) from None
        yield sample


def _failure(what: str, problem: BaseException) -> BuildError:
    failure = BuildError(f"{what}: {type(problem).__name__}: {problem}")
    failure.add_note("".join(traceback.format_exception(problem)))
    return failure
