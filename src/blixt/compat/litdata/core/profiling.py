"""What a loader spends its time on: cProfile of reading here and in worker 0, or a trace of batches there."""

import json
import os
import pstats
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from cProfile import Profile
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path
from types import FrameType
from typing import Any

from torch.utils.data import get_worker_info

_MOST_EVENTS = 1_000_000
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Profiling:
    """What is asked for.

    Attributes:
        batches: how many batches of worker 0 are traced; True means all.
        skip: how many come before them.
        folder: where files are written.
        cprofile: whether cProfile counts calls, in this process and in worker 0.
    """

    batches: bool | int = False
    skip: int = 0
    folder: str | None = None
    cprofile: bool = False

    def check(self, num_workers: int) -> None:
        """Refuse what does not go together.

        Raises:
            ValueError: for both kinds at once, or a trace without workers.
        """
        if self.batches and self.cprofile:
            raise ValueError(
                "`profile_batches` and `profile_cprofile` exclude each other; enable one of them."
            )
        if self.batches and num_workers == 0:
            raise ValueError("Profiling is supported only with num_workers >= 1.")

    def path(self, name: str) -> Path:
        """Return where a file goes; its folder is made."""
        folder = Path(self.folder or os.getcwd()).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Hand batches on, and count the calls that it took to get them; those of the caller do not count."""
        profile = Profile()
        try:
            while True:
                profile.enable()
                try:
                    batch = next(batches, _END)
                finally:
                    profile.disable()
                if batch is _END:
                    return
                yield batch
        finally:
            write(profile, self.path("cprofile_main"))


_END = object()


class InWorker:
    """Profiles worker 0; its two methods go to torch's loader as `worker_init_fn` and `collate_fn`.

    What was found is written before the last batch is handed over: a worker that still writes when an epoch
    is over may be ended.
    """

    def __init__(
        self, asked: Profiling, init: Callable[[int], None] | None, collate: Callable[[list[Any]], Any]
    ) -> None:
        self._asked, self._init, self._collate = asked, init, collate
        self._running: Profile | Trace | None = None
        self._skip = self._batches = 0

    def init(self, worker: int) -> None:
        """Begin in worker 0."""
        if self._init is not None:
            self._init(worker)
        if worker == 0:
            asked, own = self._asked, _batches_of_this_worker()
            self._skip = asked.skip if asked.batches else 0
            self._batches = own - self._skip
            if asked.batches and asked.batches is not True:
                self._batches = min(asked.batches, self._batches)
            Finalize(None, self._end, exitpriority=10)  # when a loop was left; a worker leaves without atexit
            self._begin()

    def collate(self, items: list[Any]) -> Any:
        """Make a batch, and begin or end with it."""
        batch = self._collate(items)
        if self._running is not None:
            self._batches -= 1
            if self._batches <= 0:
                self._end()
        elif self._batches > 0:
            self._skip -= 1
            self._begin()
        return batch

    def _begin(self) -> None:
        if self._skip <= 0 < self._batches:
            self._running = Profile() if self._asked.cprofile else Trace()
            self._running.enable()

    def _end(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        running.disable()
        if isinstance(running, Trace):
            running.save(self._asked.path("result.json"))
        else:
            write(running, self._asked.path("cprofile_worker0"))


def _batches_of_this_worker() -> int:
    info: Any = get_worker_info()
    dataset = info.dataset
    return len(range(info.id, dataset.part.steps(dataset.begins_at), info.num_workers))


def write(profile: Profile, stem: Path) -> None:
    """Write what cProfile found: all of it as `.prof`, the calls that took longest as `.txt`."""
    profile.dump_stats(stem.with_suffix(".prof"))
    with open(stem.with_suffix(".txt"), "w") as file:
        found = pstats.Stats(profile, stream=file).strip_dirs()
        for order in ("tottime", "cumtime"):
            print(f"--- {order} ---", file=file)
            found.sort_stats(order).print_stats(_SHOWN)


class Trace:
    """Every call of this thread, in the format of chrome://tracing and Perfetto; of very many the last."""

    def __init__(self) -> None:
        self._events: deque[dict[str, Any]] = deque(maxlen=_MOST_EVENTS)
        self._open: list[tuple[str, int]] = []
        self._thread = {"pid": os.getpid(), "tid": threading.get_native_id()}

    def enable(self) -> None:
        """Begin to note calls."""
        sys.setprofile(self._note)

    def disable(self) -> None:
        """End it."""
        sys.setprofile(None)

    def save(self, path: Path) -> None:
        """Write the calls."""
        with suppress(FileNotFoundError):
            path.unlink()
        path.write_text(json.dumps({"traceEvents": list(self._events), "displayTimeUnit": "ms"}))

    def _note(self, frame: FrameType, event: str, called: Any) -> None:
        now = time.perf_counter_ns()
        if event == "call":
            code = frame.f_code
            name = f"{code.co_qualname} ({code.co_filename}:{code.co_firstlineno})"
            self._open.append((name, now))
        elif event == "c_call":
            self._open.append((getattr(called, "__qualname__", repr(called)), now))
        elif self._open:
            name, began = self._open.pop()
            entry = {"name": name, "ph": "X", "ts": began / 1e3, "dur": (now - began) / 1e3}
            self._events.append({**entry, **self._thread})
