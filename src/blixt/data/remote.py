"""A shard in a store, read through the cache: what is asked for is fetched, once on this machine."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from blixt.data.cache import Cache
from blixt.data.cache_file import GRANULE, Span, zeros
from blixt.data.fetch import NOW, Fetcher, Job, fetcher
from blixt.data.remote_plan import bridged, covering, pieces, requests
from blixt.data.shard.file import merge_ranges
from blixt.data.store.base import Range, Store

_OTHERS_WAIT_S = 60.0
"""How long another process may take to fetch what we need too, before we fetch it ourselves."""
_LOOK_EVERY_S = 0.005, 0.1


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a file comes from, and by which name the cache knows it.

    Attributes:
        store: where it lies.
        path: its path in the store.
        size: its length in bytes.
        key: its name in the cache; equal keys must mean equal bytes.
    """

    store: Store
    path: str
    size: int
    key: str


class RemoteFile:
    """A `ShardFile` whose bytes are fetched when they are needed, or ahead of that.

    Args:
        origin: the file.
        cache: where its bytes are kept.
        pool: the threads that fetch; the process's usual ones when None.
        hedge: ask a second time, beside the first request, for what somebody waits for longer than 95 % of
            the recent requests took.

    Raises:
        CacheError: when the cache cannot keep it.
    """

    def __init__(
        self, origin: Origin, cache: Cache, *, pool: Fetcher | None = None, hedge: bool = False
    ) -> None:
        self._pool = pool or fetcher()
        self.name = origin.store.url(origin.path)
        self.size = origin.size
        self._origin = origin
        self._cache = cache
        self._hedge = hedge
        self._use = cache.open(origin.key, origin.size)
        self._file = self._use.file
        self.view = self._file.view
        self._complete = False
        self._running: list[Job | None] = [None] * self._file.granules
        self._asked = bytearray(self._file.granules)
        self._lock = threading.Lock()

    @property
    def is_local(self) -> bool:
        """Whether all bytes are here by now."""
        if not self._complete:
            self._complete = self._file.complete(0, self._file.granules)
        return self._complete

    @property
    def retired(self) -> bool:
        """Whether the cache took the file back; what was read stays good, more is fetched by a new one."""
        return self._use.retired

    def touch(self) -> None:
        """Count as used now, so that the cache keeps it longer."""
        self._use.touch()

    def ensure(self, ranges: Sequence[Range]) -> None:
        """Return when all these bytes are in the view.

        Raises:
            StoreError: when the store does not give them.
            CacheError: when the disk does not take them.
        """
        self.finish(self.begin(ranges))

    def begin(self, ranges: Sequence[Range]) -> list[Job]:
        """Begin to fetch what lacks of these bytes, before all look-ahead; `finish` waits for it."""
        spans = self._absent(ranges)
        return self._jobs(spans, NOW) if spans else []

    def finish(self, jobs: Sequence[Job]) -> None:
        """Wait for what `begin` returned.

        Raises:
            StoreError, CacheError: what went wrong with one of them.
        """
        for job in reversed(jobs):
            self._wait(job)

    def prefetch(self, ranges: Sequence[Range], priority: int = 0, piece_bytes: int = GRANULE) -> None:
        """Begin to fetch these bytes and return at once; problems show when the bytes are needed.

        Args:
            ranges: the bytes.
            priority: look-ahead of a smaller number runs earlier.
            piece_bytes: fetch whole pieces of this size, counted from the start of the file.
        """
        if piece_bytes > GRANULE:
            ranges = merge_ranges([pieces(start, end, piece_bytes) for start, end in ranges])
        if spans := self._absent(ranges):
            self._use.touch()
            self._jobs(spans, priority)

    def refetch(self, start: int, end: int) -> bool:
        """Fetch bytes anew, whatever the cache holds, and put them in its place; always True."""
        self._bring(*covering(start, end))
        return True

    def discard(self) -> None:
        """Throw away what the cache holds of the file; views that are still held stay readable."""
        self._use.retire()
        self._file.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the cached file; views that are still held stay readable."""
        self._use.retire()

    def _absent(self, ranges: Sequence[Range]) -> list[Span]:
        """Return the spans of granules that are not here, sorted."""
        absent: list[Span] = []
        for start, end in ranges:
            low, high = covering(start, min(end, self.size))
            if not self._file.complete(low, high):
                absent += self._file.absent(low, high)
        return merge_ranges(absent)

    def _jobs(self, spans: Sequence[Span], priority: int) -> list[Job]:
        """Return the jobs that bring these granules: running ones, and new ones for the rest."""
        with self._lock:
            running = {job for low, high in spans for job in self._running[low:high] if job is not None}
            missing = [span for low, high in spans for span in zeros(self._asked, low, high)]
            if priority == NOW:
                for job in running:
                    self._pool.hurry(job)
            begun = [
                self._begin(low, high, priority)
                for joined in requests(missing)
                for low, high in bridged(self._unasked(*joined))
            ]
        return [*running, *begun]

    def _unasked(self, low: int, high: int) -> list[Span]:
        """Return the spans of granules that are neither here nor on their way, sorted."""
        return [
            span for first, end in self._file.absent(low, high) for span in zeros(self._asked, first, end)
        ]

    def _begin(self, low: int, high: int, priority: int) -> Job:
        def work() -> None:
            try:
                self._fetch(low, high)
            finally:
                with self._lock:
                    self._mark(low, high, None)

        job = Job((high - low) * GRANULE, work)
        self._mark(low, high, job)
        return self._pool.submit(job, priority)

    def _mark(self, low: int, high: int, job: Job | None) -> None:
        """Note which job brings some granules; it may reach over granules that another one brings too."""
        self._running[low:high] = [job] * (high - low)
        self._asked[low:high] = (b"\0" if job is None else b"\1") * (high - low)

    def _wait(self, job: Job) -> None:
        """Wait for a job, with a second try beside it where that is wanted and the first is slow."""
        slow_after_s = self._pool.slow_after_s() if self._hedge else None
        if slow_after_s is None:
            self._pool.run_here(job)
        elif not job.wait(slow_after_s):
            self._pool.submit(job.again(), NOW)
        job.wait()
        if job.problem is not None:
            raise job.problem

    def _fetch(self, low: int, high: int) -> None:
        """Fetch what is absent of some granules, or wait for another process that is at it."""
        deadline = time.monotonic() + _OTHERS_WAIT_S
        pause_s, longest_s = _LOOK_EVERY_S
        while time.monotonic() < deadline:
            with self._file.fetching(low, high) as alone:
                if alone:
                    self._fetch_absent(low, high)
                    return
            if self._file.complete(low, high):
                return
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, longest_s)
        self._fetch_absent(low, high)  # the other one hangs: what we write is what it would write

    def _fetch_absent(self, low: int, high: int) -> None:
        for first, end in requests(self._file.absent(low, high)):
            self._bring(first, end)

    def _bring(self, low: int, high: int) -> None:
        start, end = low * GRANULE, min(high * GRANULE, self.size)
        self._cache.about_to_store(end - start)
        self._origin.store.read_to(self._origin.path, start, end, self._keep)

    def _keep(self, at: int, data: memoryview) -> None:
        """Put what arrived in the cache; a full disk is given one chance, by evicting what nobody uses.

        Raises:
            CacheError: when the disk refuses all the same.
        """
        try:
            self._file.fill(at, data)
        except OSError as problem:
            if not self._cache.free(len(data)):
                raise self._cache.refused(problem) from problem
            try:
                self._file.fill(at, data)
            except OSError as still:
                raise self._cache.refused(still) from still
