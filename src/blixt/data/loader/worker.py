"""A worker process of a loader: reads the steps it is told to, into the slots it is told to.

It ends when its pipe does: with the loader, or with the process that had it, however that ended.
"""

import faulthandler
import os
import pickle
import signal
import sys
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from blixt.data.ahead import rows_of_steps
from blixt.data.loader.read import EMPTY, Reader
from blixt.data.loader.ring import Ring
from blixt.data.loader.wire import Packed, pack
from blixt.data.steps import Steps

TRACE_SIGNAL = signal.SIGUSR2
_PROTOCOL = pickle.HIGHEST_PROTOCOL


@dataclass(frozen=True)
class Epoch:
    """An epoch begins: what the worker's dataset is to read, and which steps of it."""

    run: int
    state: dict[str, Any]
    steps: Steps
    chosen: range


@dataclass(frozen=True)
class Task:
    """Read the next step into this slot."""

    run: int
    slot: int


@dataclass(frozen=True)
class Result:
    """A batch, or what went wrong: the exception (pickled, if it can be) and its traceback as text."""

    run: int
    step: int
    slot: int
    packed: Packed | None
    problem: bytes | None = None
    trace: str = ""


@dataclass(frozen=True)
class Place:
    """What a worker is given at its start, beside the pickled reader."""

    ring: Any
    slots: int
    slot_bytes: int
    trace: Any


STARTED = b""
"""What a worker says first: from now on a batch has its time, without what starting took."""


def work(connection: Connection, place: Place, reader: bytes) -> None:
    """Serve until the pipe ends; the target of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    trace = place.trace.detach()
    faulthandler.register(TRACE_SIGNAL, file=trace, all_threads=True)
    descriptor = place.ring.detach()
    ring = Ring(descriptor, place.slots, place.slot_bytes)
    os.close(descriptor)
    try:
        serve = _Server(connection, ring, pickle.loads(reader))
    except BaseException as problem:
        _send(connection, failure(-1, -1, 0, problem))
        return
    try:
        connection.send_bytes(STARTED)
        while True:
            serve.handle(connection.recv())
    except (EOFError, ConnectionError):
        return


class _Server:
    def __init__(self, connection: Connection, ring: Ring, reader: Reader) -> None:
        self._connection = connection
        self._ring = ring
        # stored bytes go from the mapped shard to the slot; the loader decides what they become there
        self._reader = reader if reader.runs_user_code else replace(reader, views=True)
        self._epoch: Epoch | None = None
        self._rows: Any = iter(())
        if "torch" in sys.modules:  # the workers share the machine: one thread each
            sys.modules["torch"].set_num_threads(1)

    def handle(self, message: Epoch | Task) -> None:
        if isinstance(message, Epoch):
            self._epoch = message
            self._reader.dataset.load_state_dict(message.state)
            self._rows = rows_of_steps(self._reader.dataset, message.steps, message.chosen)
        elif self._epoch is not None and message.run == self._epoch.run:
            _send(self._connection, self._read(message, self._epoch))

    def _read(self, task: Task, epoch: Epoch) -> Result:
        slot = self._ring.slot(task.slot)
        step = -1
        try:
            step, rows = next(self._rows)
            batch = self._reader.read(epoch.steps, step, rows, slot.allocate)
            packed = Packed(EMPTY, None) if batch is EMPTY else pack(batch, slot)
        except BaseException as problem:
            return failure(task.run, step, task.slot, problem)
        return Result(task.run, step, task.slot, packed)


def failure(run: int, step: int, slot: int, problem: BaseException) -> Result:
    """Describe an exception so that another process can raise it again."""
    text = "".join(traceback.format_exception(problem))
    try:
        pickled: bytes | None = pickle.dumps(problem, _PROTOCOL)
        pickle.loads(pickled)
    except Exception:  # an exception that cannot travel; its text does
        pickled = None
    return Result(run, step, slot, None, pickled, text)


def _send(connection: Connection, result: Result) -> None:
    try:
        data = pickle.dumps(result, _PROTOCOL)
    except Exception as problem:
        problem.add_note(
            "blixt.data: while sending a batch from a worker; what a transform returns must pickle"
        )
        data = pickle.dumps(failure(result.run, result.step, result.slot, problem), _PROTOCOL)
    connection.send_bytes(data)
