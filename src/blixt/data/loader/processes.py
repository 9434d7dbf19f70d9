"""Batches read by processes: for the user's Python. They write into shared memory; only offsets travel."""

import os
import pickle
import select
import signal
import warnings
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from typing import Any

from blixt.data.errors import LoaderError
from blixt.data.loader.read import EMPTY, Reader, named
from blixt.data.loader.ring import Ring, anonymous_file
from blixt.data.loader.wire import Packed, unpack
from blixt.data.loader.worker import STARTED, TRACE_SIGNAL, Epoch, Place, Result, Task, work
from blixt.data.steps import Steps

_LENT = 2
"""Batches that the caller may hold on to before further ones are copied out of their slots."""
_START_S = 120.0
"""At least so long may a worker take to start and to import what it needs."""
_STOP_S = 5.0
_TRACE_S = 10.0
_TRACE_GAP_S = 1.0


class Pool:
    """Worker processes and their ring; they live on from epoch to epoch.

    Args:
        reader: what they do.
        workers: how many there are.
        prefetch: batches that each reads ahead.
        slot_bytes: room for one batch; memory is taken only as it is used.
        timeout_s: how long a batch may take; that of a worker which still starts, 120 s at least.
        copy: give arrays memory of their own in any case.

    Raises:
        LoaderError: when the dataset or a transform cannot be sent to a process.
    """

    def __init__(
        self, reader: Reader, *, workers: int, prefetch: int, slot_bytes: int, timeout_s: float, copy: bool
    ) -> None:
        self._reader, self._prefetch, self._copy = reader, prefetch, copy
        self._timeout_s = timeout_s
        self._run = 0
        self._warned = False
        slots = workers * prefetch + _LENT
        descriptor = anonymous_file(slots * slot_bytes)
        try:
            self._ring = Ring(descriptor, slots, slot_bytes)
            payload = _pickled(reader)
            self._workers = [_Worker(i, descriptor, slots, slot_bytes, payload) for i in range(workers)]
        finally:
            os.close(descriptor)
        self.close = weakref.finalize(self, _stop_all, self._workers)

    def batches(self, steps: Steps) -> Iterator[tuple[int, Any]]:
        """Yield each step and its batch, in order.

        Raises:
            LoaderError: when a worker died or gave nothing for `timeout_s`.
            Exception: what the dataset or a transform raised, with the worker's traceback as a note.
        """
        self._run += 1
        count = len(self._workers)
        for worker in self._workers:  # what an epoch that was left early had ready
            self._ring.free.extend(result.slot for result in worker.inbox)
            worker.inbox.clear()
        state = self._reader.dataset.state_dict()
        for number, worker in enumerate(self._workers):
            chosen = range(number, len(steps), count)
            worker.send(Epoch(self._run, state, steps, chosen))
            for _ in range(min(self._prefetch, len(chosen))):
                worker.send(Task(self._run, self._take_slot()))
        ahead = self._prefetch * count
        for step in range(len(steps)):
            worker = self._workers[step % count]
            result = self._receive(worker, step, steps)
            batch, slot = self._open(result)
            if step + ahead < len(steps):
                worker.send(Task(self._run, self._take_slot() if slot is None else slot))
            elif slot is not None:
                self._ring.free.append(slot)
            yield step, batch

    def _take_slot(self) -> int:
        """Return a free slot; without one, batches of an epoch that was left early still hold some."""
        pipes: dict[Any, _Worker] = {worker.connection: worker for worker in self._workers}
        while not self._ring.free:
            ready, _, _ = select.select(list(pipes), [], [], self._timeout_s)
            if not ready:
                raise LoaderError(f"no worker finished a batch of an earlier epoch for {self._timeout_s:g} s")
            for pipe in ready:
                self._sort(pipes[pipe])
        return self._ring.free.popleft()

    def _sort(self, worker: "_Worker", where: str = "") -> None:
        """Keep a result of this epoch for its turn; of an earlier one only the slot is of use."""
        try:
            result = worker.receive()
        except (EOFError, ConnectionError):
            code = worker.exit_code()
            self.close()
            raise LoaderError(f"{worker.name} died{where}: {_how(code)}") from None
        if result is None:
            return
        if result.run == self._run or result.run < 0:
            worker.inbox.append(result)
        else:
            self._ring.free.append(result.slot)

    def _receive(self, worker: "_Worker", step: int, steps: Steps) -> Result:
        """Return the worker's result of this step."""
        while not worker.inbox:
            patience_s = self._timeout_s if worker.started else max(self._timeout_s, _START_S)
            if not worker.connection.poll(patience_s):
                rows, trace = self._reader.dataset.order.at(steps.positions(step)), worker.trace()
                self.close()
                raise LoaderError(
                    f"{worker.name} gave no batch for {patience_s:g} s at step {step} "
                    f"({named(rows)}); raise "
                    f"timeout_s if it may take that long. It was here:\n{trace}"
                )
            self._sort(worker, f" at step {step}")
        return worker.inbox.popleft()

    def _open(self, result: Result) -> tuple[Any, int | None]:
        """Return the batch, and its slot if that may be written to again."""
        if result.packed is None:
            self._ring.free.append(result.slot)
            raise _raised(result)
        packed: Packed = result.packed
        if packed.pickled is not None and not self._warned:
            self._warned = True
            warnings.warn(
                f"blixt.data.Loader: {packed.pickled} and is pickled on its way from the worker, "
                "which is slow; arrays, "
                "tensors, bytes and text travel in shared memory (raise slot_bytes for larger batches)",
                stacklevel=4,
            )
        if packed.tree is EMPTY:
            return EMPTY, result.slot
        copy = self._copy or not self._ring.free
        base, root = self._ring.base(result.slot), (self._ring.root if copy else self._ring.lend)(result.slot)
        batch = unpack(packed.tree, root, base, views=self._reader.views, copy=copy)
        return batch, result.slot if copy else None


class _Worker:
    """One process, seen from the loader."""

    def __init__(self, number: int, ring: int, slots: int, slot_bytes: int, reader: bytes) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload(["__main__", "blixt.data.loader.worker"])
        self.connection, theirs = context.Pipe()
        self._trace, trace = os.pipe()
        self._process = context.Process(
            target=_Start(ring, trace, slots, slot_bytes),
            args=(theirs, reader),
            name=f"blixt-loader-{number}",
            daemon=True,
        )
        try:
            self._process.start()
        finally:
            theirs.close()
            os.close(trace)
        self.inbox: deque[Result] = deque()
        self.started = False
        self.name = f"loader worker {number} (pid {self._process.pid})"

    def send(self, message: Epoch | Task) -> None:
        """Tell the worker something; one that is dead is noticed when its answer is waited for."""
        with suppress(ConnectionError):
            self.connection.send(message)

    def receive(self) -> Result | None:
        """Return the worker's next answer; None if it only said that it has started."""
        said = self.connection.recv_bytes()
        if said == STARTED:
            self.started = True
            return None
        return pickle.loads(said)

    def trace(self) -> str:
        """Ask where the worker is: the stacks of its threads as text."""
        pid = self._process.pid
        if pid is None:
            return "not started"
        with suppress(ProcessLookupError):
            os.kill(pid, TRACE_SIGNAL)
        text = b""
        while select.select([self._trace], [], [], _TRACE_S if not text else _TRACE_GAP_S)[0]:
            part = os.read(self._trace, 1 << 16)
            if not part:
                break
            text += part
        return text.decode(errors="replace") or "it does not answer"

    def exit_code(self) -> int | None:
        """Return how the process ended, waiting a little for it."""
        self._process.join(_STOP_S)
        return self._process.exitcode

    def stop(self) -> None:
        """End the process: by its pipe, or by a signal when it does not listen."""
        self.connection.close()
        os.close(self._trace)
        self._process.join(0.5)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join(_STOP_S)


class _Start:
    """The process's target; the descriptors it holds are passed on when it is pickled for the process."""

    def __init__(self, ring: int, trace: int, slots: int, slot_bytes: int) -> None:
        self._ring, self._trace, self._sizes = ring, trace, (slots, slot_bytes)

    def __reduce__(self) -> Any:
        return _Started, (DupFd(self._ring), DupFd(self._trace), *self._sizes)

    def __call__(self, connection: Connection, reader: bytes) -> None:
        raise AssertionError("runs in the process only, as _Started")


class _Started:
    def __init__(self, ring: Any, trace: Any, slots: int, slot_bytes: int) -> None:
        self._place = Place(ring, slots, slot_bytes, trace)

    def __call__(self, connection: Connection, reader: bytes) -> None:
        work(connection, self._place, reader)


def _stop_all(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.stop()


def _pickled(reader: Reader) -> bytes:
    try:
        return pickle.dumps(reader, pickle.HIGHEST_PROTOCOL)
    except Exception as problem:
        raise LoaderError(
            f"the dataset or a transform cannot be sent to worker processes ({problem}); make "
            "transforms functions or "
            "classes of a module, or choose mode='threads'"
        ) from problem


def _raised(result: Result) -> BaseException:
    """Return the worker's exception, with its traceback as a note."""
    problem: BaseException
    if result.problem is None:
        problem = LoaderError(f"a worker failed:\n{result.trace}")
    else:
        problem = pickle.loads(result.problem)
        problem.add_note(f"The traceback in the worker:\n{result.trace}")
    return problem


def _how(code: int | None) -> str:
    if code is None:
        return "it closed its pipe and still runs"
    if code < 0:
        return f"signal {signal.Signals(-code).name} (out of memory, or killed by someone)"
    return f"it left with exit code {code}; its own output says why"
