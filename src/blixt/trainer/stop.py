"""All processes leave a run after the same batch, without a collective in every step.

A signal handler only sets a flag. With several processes, one that wants to stop posts so to the store
where the processes met. In each process a watcher thread sees it and promises "I will not go beyond batch
n without knowing where all stop"; when every promise is posted, the largest is where all stop. Nobody
can be beyond it, and those before it have batches in lockstep to get there.
"""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from blixt.fabric import Fabric, FabricError

_POLL_S = 0.25
_AGREE_S = 600.0


class StopAgreement:
    """Asks and answers "do we stop after this batch?".

    Args:
        fabric: The processes.
        run_id: Same on all ranks, different for every run in one process.
    """

    def __init__(self, fabric: Fabric, run_id: int) -> None:
        self.requested: str | None = None
        self._rank, self._world_size = fabric.global_rank, fabric.world_size
        self._store: Any = fabric.strategy.side_channel()
        self._prefix = f"blixt/stop/{run_id}"
        self._lock = threading.Lock()
        self._batch = 0
        self._limit: float = float("inf")
        self._target: int | None = None
        self._agreed = threading.Event()
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None

    def start(self, batch: int) -> None:
        """Begin to listen; `batch` is the number of batches done."""
        self._batch = batch
        if self._store is not None:
            self._watcher = threading.Thread(target=self._watch, name="blixt-stop", daemon=True)
            self._watcher.start()

    def close(self) -> None:
        """End the watcher."""
        self._closed.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None

    def request(self, reason: str) -> None:
        """Want to stop soon; safe in a signal handler."""
        self.requested = self.requested or reason

    def due(self, batch: int) -> bool:
        """Whether all stop now that `batch` batches are done."""
        if self._store is None:
            return self.requested is not None
        with self._lock:
            self._batch = batch
            if batch < self._limit:
                return False
        if not self._agreed.wait(_AGREE_S):
            raise FabricError(
                f"Rank {self._rank} waited {_AGREE_S:g} s for the other ranks to say where to stop. "
                "One of them hangs."
            )
        return self._target is not None and batch >= self._target

    # --- the watcher ------------------------------------------------------------------------------

    def _watch(self) -> None:
        asked = f"{self._prefix}/asked"
        while not self._closed.wait(_POLL_S):
            if self.requested is not None:
                self._store.set(asked, self.requested)
            if self._store.check([asked]):
                self.requested = self._store.get(asked).decode()
                self._agree()
                return

    def _agree(self) -> None:
        with self._lock:
            self._limit = self._batch + 1
            promise = self._batch + 1
        self._store.set(f"{self._prefix}/{self._rank}", str(promise))
        keys = [f"{self._prefix}/{rank}" for rank in range(self._world_size)]
        deadline = time.monotonic() + _AGREE_S
        while not self._store.check(keys):
            if self._closed.wait(_POLL_S / 10) or time.monotonic() > deadline:
                return
        self._target = max(int(self._store.get(key)) for key in keys)
        self._agreed.set()


class SignalHandlers:
    """While inside, SIGTERM asks for a stop instead of killing; previous handlers come back after."""

    def __init__(self, ask: Callable[[str], None]) -> None:
        self._ask = ask
        self._previous: Any = None
        self._installed = False

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._on_signal)
            self._installed = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._ask("SIGTERM")

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGTERM, self._previous)
