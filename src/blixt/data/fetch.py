"""The I/O threads of a process: what is needed soonest is fetched first, with bounded bytes in flight."""

import heapq
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

NOW = -1
"""The priority of what somebody waits for; look-ahead counts up from 0."""
THREADS = 8
IN_FLIGHT_BYTES = 64 << 20
_KEPT_DURATIONS = 64
_LEAST_DURATIONS = 16


@dataclass(eq=False)
class Job:
    """Something to fetch.

    Attributes:
        size_bytes: what it will hold in memory while it runs.
        work: does it, in an I/O thread.
        problem: what it raised, once it is done.
    """

    size_bytes: int
    work: Callable[[], object]
    problem: BaseException | None = None
    priority: int = 0
    started: bool = False
    _done: threading.Event = field(default_factory=threading.Event)

    @property
    def done(self) -> bool:
        """Whether it has run."""
        return self._done.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it has run; return whether it has."""
        return self._done.wait(timeout_s)

    def again(self) -> "Job":
        """Return a second try: whichever of the two succeeds first ends the wait."""

        first = self.work

        def work() -> None:
            first()
            self.problem = None
            self._done.set()

        return Job(self.size_bytes, work)

    def run(self) -> None:
        """Run it, in the thread that took it."""
        try:
            self.work()
        except BaseException as problem:  # handed to whoever waits for it
            self.problem = problem
        finally:
            self.work = _nothing  # lets go of what it used: a cached file that nobody holds may be evicted
            self._done.set()


def _nothing() -> None:
    """Stand in for work that is done."""


class Fetcher:
    """A pool of threads that take jobs in order of priority.

    Args:
        threads: how many jobs run at once.
        limit_bytes: how many bytes all running jobs may hold; a single larger one runs alone.
    """

    def __init__(self, threads: int = THREADS, limit_bytes: int = IN_FLIGHT_BYTES) -> None:
        self.threads = threads
        self.limit_bytes = limit_bytes
        self._jobs: list[tuple[int, int, Job]] = []
        self._number = count()
        self._asked = count()
        self._started = 0
        self._idle = 0
        self._in_flight = 0
        self._changed = threading.Condition()
        self._durations: deque[float] = deque(maxlen=_KEPT_DURATIONS)

    def submit(self, job: Job, priority: int) -> Job:
        """Queue a job; a smaller priority runs earlier."""
        with self._changed:
            self._push(job, priority)
        return job

    def hurry(self, job: Job) -> None:
        """Let a queued job run before all look-ahead, because somebody waits for it."""
        with self._changed:
            if not job.started and job.priority > NOW:
                self._push(job, NOW)

    def run_here(self, job: Job) -> None:
        """Run a job in the calling thread, unless a thread of the pool has taken it.

        Whoever waits for a job calls this first: it spares a change of threads, and a thread of the pool
        that waits for another job cannot wait for ever.
        """
        with self._changed:
            if job.started:
                return
            job.started = True
            self._in_flight += job.size_bytes
        self._run(job)

    def next_priority(self) -> int:
        """Return the priority of look-ahead that is asked for now: after all that was asked for before."""
        return next(self._asked)

    def slow_after_s(self) -> float | None:
        """Return how long 95 % of the recent jobs took at most, None before enough have run."""
        with self._changed:
            durations = sorted(self._durations)
        return durations[len(durations) * 95 // 100] if len(durations) >= _LEAST_DURATIONS else None

    def _push(self, job: Job, priority: int) -> None:
        job.priority = priority
        heapq.heappush(self._jobs, (priority, next(self._number), job))
        if self._idle == 0 and self._started < self.threads:
            self._started += 1
            threading.Thread(target=self._serve, name=f"blixt-fetch-{self._started}", daemon=True).start()
        self._changed.notify()

    def _serve(self) -> None:
        while True:
            self._run(self._take())

    def _run(self, job: Job) -> None:
        began = time.monotonic()
        job.run()
        with self._changed:
            self._in_flight -= job.size_bytes
            if job.size_bytes:
                self._durations.append(time.monotonic() - began)
            self._changed.notify_all()

    def _take(self) -> Job:
        with self._changed:
            while True:
                while self._jobs and self._jobs[0][2].started:
                    heapq.heappop(self._jobs)  # it was pushed again to hurry
                if self._jobs and self._fits(self._jobs[0][2]):
                    job = heapq.heappop(self._jobs)[2]
                    job.started = True
                    self._in_flight += job.size_bytes
                    return job
                self._idle += 1
                try:
                    self._changed.wait()
                finally:
                    self._idle -= 1

    def _fits(self, job: Job) -> bool:
        return self._in_flight == 0 or self._in_flight + job.size_bytes <= self.limit_bytes


_fetchers: dict[tuple[int, int, int], Fetcher] = {}
_fetchers_lock = threading.Lock()


def fetcher(threads: int = THREADS, limit_bytes: int = IN_FLIGHT_BYTES) -> Fetcher:
    """Return this process's pool of I/O threads, one for all who want the same bounds."""
    with _fetchers_lock:
        return _fetchers.setdefault((os.getpid(), threads, limit_bytes), Fetcher(threads, limit_bytes))
