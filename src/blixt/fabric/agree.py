"""Agreements between ranks: where to stop, and whether all of them have data left.

Stopping costs nothing in a step. A signal handler only sets a flag. With several processes, one that wants
to stop posts so to the store where the processes met. In each process a watcher thread sees it and
promises "I will not go beyond this place without knowing where all stop"; when every promise is posted, the
largest is where all stop. Nobody can be beyond it, and those before it have batches in lockstep to get
there. Where one of them has left its run already, the request comes too late, and the others run to their
end as well. A place is a batch, or a moment within what follows it, such as a batch of its validation.
"""

import os
import select
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from blixt.fabric.errors import FabricError

T = TypeVar("T")

SHOULD_STOP = "should_stop"
"""The reason of a request that came because only some processes wanted to stop at once."""
PATIENCE_S = 20.0  # for processes that are late at the same place, because one of them was saving, say
_POLL_S = 0.25
_OVER = "over"  # the promise of a process that has left its run without having heard of a request
_WITHIN_BITS = 32
AFTER = (1 << _WITHIN_BITS) - 1
"""The moment within a batch that comes last: all that follows it is done."""
_RANKS_PER_POLL = 64  # with more ranks each asks less often, so that the store is not asked more
_untyped = cast("Any", dist)


class StopAgreement:
    """Asks and answers "do we stop after this batch?".

    Args:
        rank: Of this process.
        world_size: Number of processes.
        store: A connection of its own to the store where they met; None for one process.
        run_id: Same on all ranks, different for every run in one process.
        timeout_s: How long to wait for the promises of the others.

    Attributes:
        requested: Why somebody wants to stop, or None.
    """

    def __init__(self, rank: int, world_size: int, store: Any, run_id: int, timeout_s: float = 600.0) -> None:
        self.requested: str | None = None
        self._rank, self._world_size = rank, world_size
        self._store = store
        self._timeout_s = timeout_s
        self._prefix = f"blixt/stop/{run_id}"
        self._poll_s = _POLL_S * max(1.0, world_size / _RANKS_PER_POLL)
        self._lock = threading.Lock()
        self._place = 0
        self._limit: float = float("inf")
        self._target: int | None = None
        self._agreed = threading.Event()
        self._unanimous = False
        self._wake: tuple[int, int] | None = None
        self._closed = False
        self._watcher: threading.Thread | None = None

    def start(self, batch: int) -> None:
        """Begin to listen; `batch` is the number of batches done."""
        self._place = _place(batch, 0)
        if self._store is not None:
            self._wake = os.pipe()
            os.set_blocking(self._wake[1], False)
            self._watcher = threading.Thread(target=self._watch, name="blixt-stop", daemon=True)
            self._watcher.start()
            if self.requested is not None:
                self._wake_up()

    def close(self) -> None:
        """End the watcher, at the end of the run: others need not wait for a promise from here any more."""
        self._closed = True
        self._wake_up()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        if self._wake is not None:
            ends, self._wake = self._wake, None
            for end in ends:
                os.close(end)
            if self._limit == float("inf"):
                with suppress(dist.DistError, RuntimeError):  # the store may be gone
                    self._store.set(self._key(self._rank), _OVER)

    def request(self, reason: str) -> None:
        """Want to stop soon; safe in a signal handler."""
        self.requested = self.requested or reason
        self._wake_up()

    def due(self, batch: int, within: int = AFTER) -> bool:
        """Whether all stop now that `batch` batches are done.

        Args:
            batch: Only grows from call to call.
            within: Counts the moments between this batch and the next, where there are several; grows, too.
                Ranks may pass through different ones, if each passes through the last they have in common.

        Raises:
            FabricError: When a rank does not answer, naming it.
        """
        if self._store is None:
            return self.requested is not None
        place = _place(batch, within)
        with self._lock:
            self._place = place
            if place < self._limit:
                return False
        if not self._agreed.wait(self._timeout_s):
            raise FabricError(
                f"Rank {self._rank} waited {self._timeout_s:g} s for {self._silent()} to say where to stop."
            )
        return self._target is not None and place >= self._target

    def unanimous(self, moment: str) -> bool:
        """Whether all processes say at the same moment that they want to stop at once.

        Where one does not say so in time, it waits in a collective for those that do: they have to go on, and
        all stop together a little later, as after `request`.

        Args:
            moment: Names the place in the run, the same on all processes.
        """
        if self._store is None or self._unanimous:
            return True
        if self.requested is not None:
            return False
        self._unanimous = self._all_say(f"{self._prefix}/now/{moment}")
        if not self._unanimous:
            self.request(SHOULD_STOP)
        return self._unanimous

    def _all_say(self, key: str) -> bool:
        self._store.set(f"{key}/{self._rank}", "yes")
        patience = timedelta(seconds=min(PATIENCE_S, self._timeout_s / 4))
        try:
            self._store.wait([f"{key}/{rank}" for rank in range(self._world_size)], patience)
            verdict = "yes"
        except (dist.DistStoreError, RuntimeError):
            verdict = "no"
        # A process that comes when another has just given up must not believe that all have come.
        return self._store.compare_set(f"{key}/verdict", "", verdict) == b"yes"

    # --- the watcher ------------------------------------------------------------------------------

    def _wake_up(self) -> None:
        if self._wake is not None:
            # A lock would be unsafe in a signal handler; a full pipe wakes as well.
            try:
                os.write(self._wake[1], b".")
            except BlockingIOError:
                return

    def _rest(self, seconds: float) -> None:
        assert self._wake is not None
        if select.select([self._wake[0]], [], [], seconds)[0]:
            os.read(self._wake[0], 4096)

    def _watch(self) -> None:
        asked = f"{self._prefix}/asked"
        try:
            while True:
                self._rest(self._poll_s)
                if self._closed:
                    return
                if self.requested is not None:  # who asks first is heard, on all ranks alike
                    self._store.compare_set(asked, "", self.requested)
                if self._store.check([asked]):
                    self.requested = self._store.get(asked).decode()
                    return self._agree()
        except (dist.DistError, RuntimeError):
            return  # the store is gone with the process that held it: the next collective will say so

    def _agree(self) -> None:
        with self._lock:
            self._limit = promise = self._place + 1
        self._store.set(self._key(self._rank), str(promise))
        keys = [self._key(rank) for rank in range(self._world_size)]
        deadline = time.monotonic() + self._timeout_s
        while not self._store.check(keys):
            self._rest(self._poll_s / 10)
            if self._closed or time.monotonic() > deadline:
                return
        promises = [self._store.get(key).decode() for key in keys]
        if _OVER not in promises:
            self._target = max(map(int, promises))
        self._agreed.set()

    def _key(self, rank: int) -> str:
        return f"{self._prefix}/{rank}"

    def _silent(self) -> str:
        missing = [rank for rank in range(self._world_size) if not self._store.check([self._key(rank)])]
        return f"rank {', '.join(map(str, missing))}" if missing else "the other ranks"


def _place(batch: int, within: int) -> int:
    """One number that orders all moments of a run."""
    return batch << _WITHIN_BITS | within


class DataLeft:
    """Asks all ranks whether each of them has one more batch, so that they end an epoch together.

    One number travels between the hosts each time; no device is waited for. Only data whose length is
    unknown, or differs between ranks, needs it.

    Args:
        world_size: Number of processes.
    """

    def __init__(self, world_size: int) -> None:
        self._world_size = world_size
        self._group: Any = None

    def left(self, mine: bool) -> bool:
        """Whether every rank has one more; all ranks call it, and get the same answer."""
        if self._world_size == 1:
            return mine
        if self._group is None:
            on_hosts = dist.get_backend() == "gloo"
            self._group = dist.group.WORLD if on_hosts else _untyped.new_group(backend="gloo")
        flag = torch.tensor([int(mine)])
        _untyped.all_reduce(flag, dist.ReduceOp.MIN, group=self._group)
        return bool(flag.item())


def together(batches: Iterable[T], left: DataLeft) -> Iterator[T]:
    """The batches of this rank, as long as every rank has one; the rest of the longer ones is not used."""
    source = iter(batches)
    nothing = object()
    while True:
        batch = next(source, nothing)
        if not left.left(batch is not nothing):
            return
        yield cast("T", batch)
