"""The shards of one version, opened when first needed: mapped where they are local, else cached."""

import os
import resource
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from blixt.data.access import Access, Reading
from blixt.data.cache import open_cache
from blixt.data.errors import CorruptionError, DatasetNotFoundError, FormatError, KeyNotFoundError
from blixt.data.fetch import NOW, Job
from blixt.data.keys import Keys
from blixt.data.order import Int
from blixt.data.remote import Origin, RemoteFile
from blixt.data.shard.file import Range, merge_ranges
from blixt.data.shard.info import ShardInfo
from blixt.data.shard.read import ShardReader
from blixt.data.snapshot import Snapshot, load
from blixt.data.store import (
    Location,
    NotFoundError,
    Store,
    TruncatedError,
    open_store,
)
from blixt.data.together import Mapped

_FIRST_ROWS = 64
"""Rows of the first look-ahead that are asked for before the others: a reader that begins waits for them."""
_AHEAD_BYTES = 256 << 10
"""Look-ahead fetches pieces of this size: what lies beside a wanted row is wanted soon, too."""
TokenSpan = tuple[int, int, int]
"""Tokens of one shard: (shard, first token in it, end)."""


class _Opened(NamedTuple):
    reader: ShardReader
    file: RemoteFile | None


class Shards:
    """The shards of one version of a dataset, by number.

    Args:
        location: where the dataset lies: an address, presigned URLs, or a store.
        version: the snapshot to read; the newest when None.
        access: how to reach it.
        reading: how to decode it.

    Raises:
        DatasetNotFoundError: when there is no such dataset or version.
    """

    def __init__(
        self,
        location: Location | Store,
        version: int | None = None,
        *,
        access: Access | None = None,
        reading: Reading | None = None,
    ) -> None:
        self._access = access or Access()
        self._reading = reading or Reading()
        self.store = (
            location
            if isinstance(location, Store)
            else open_store(location, credentials=self._access.credentials, options=self._access.options)
        )
        self.snapshot: Snapshot = load(self.store, version)
        self.first_row = self.snapshot.first_row
        self._max_open = max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._begin_process()

    @property
    def root(self) -> str:
        """The dataset's address."""
        return self.store.location

    @property
    def are_local(self) -> bool:
        """Whether the shards are files on this machine, so that nothing need be fetched."""
        return self.store.local is not None

    def __len__(self) -> int:
        return len(self.snapshot.shards)

    def __getitem__(self, number: int) -> ShardReader:
        """Return a shard's reader; with too many files open, the one that was opened first is closed."""
        opened = self._opened.get(number)
        if opened is not None and opened.file is None:
            return opened.reader
        return self._at(number).reader

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process without what is open; it is opened anew there."""
        left = ("_opened", "_opening", "_lock", "_keys", "_first")
        return {name: value for name, value in self.__dict__.items() if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin_process()

    def mapped(self, parts: Sequence[tuple[int, Int]], columns: Sequence[str]) -> Mapped | None:
        """Return shards once it is known where their rows' values lie; None where some are packed.

        Args:
            parts: pairs of a shard's number and rows within it.
            columns: the columns; what is fixed in size is here by then, too.

        Raises:
            StoreError, CacheError: when what is needed to know cannot be had.
        """
        if not self.are_local:
            self._ensure([(number, partial(_look_up_ranges, rows, columns)) for number, rows in parts])
        opened = [self._at(number) for number, _ in parts]
        return Mapped(opened) if all(reader.is_in_place for reader, _ in opened) else None

    def ensure(self, parts: Sequence[tuple[int, Int]]) -> None:
        """Return when the rows' bytes are here, having asked for what lacks in all shards at once.

        Args:
            parts: pairs of a shard's number and rows within it.

        Raises:
            StoreError, CacheError: when they cannot be had.
        """
        if not self.are_local:
            self._ensure([(number, partial(_row_ranges, rows)) for number, rows in parts])

    def ensure_tokens(self, column: str, spans: Sequence[TokenSpan]) -> None:
        """Return when these tokens of a stream column are here, whichever shards they lie in."""
        if not self.are_local:
            self._ensure(_token_needs(column, spans))

    def plan(self, rows: Int) -> None:
        """Begin to fetch what these rows of the dataset need, in order of first use; returns at once."""
        if self.are_local:
            return

        self._plan(self._needs, rows)

    def plan_tokens(self, column: str, spans: Sequence[TokenSpan]) -> None:
        """Begin to fetch these tokens of a stream column, in order of first use; returns at once."""
        if not self.are_local:
            self._plan(partial(_token_needs, column), spans)

    def _plan(self, needs: Callable[[Any], "list[_Need]"], wanted: Any) -> None:
        """Fetch ahead what a sequence of rows or spans needs; of the first one, what comes first alone."""
        if self._all_here():
            return

        def begin() -> None:
            first, most = needs(wanted[:_FIRST_ROWS]), self._access.io_threads
            self._prefetch(first[:most])  # no more shards than can be opened at once: somebody waits for it
            self._later(lambda: self._prefetch(first[most:]))
            self._later(lambda: self._prefetch_more(needs, wanted[_FIRST_ROWS:]))

        with self._lock:
            if self._first is None:
                self._first = self._later(begin)
                return
        self._later(lambda: self._prefetch_more(needs, wanted))

    def _all_here(self) -> bool:
        """Whether every shard is open and complete in the cache, so that there is nothing to fetch ahead."""
        opened = list(self._opened.values())
        return len(opened) == len(self) and all(
            file is not None and file.is_local and not file.retired for _, file in opened
        )

    @property
    def keys(self) -> Keys:
        """How rows are found by key.

        Raises:
            KeyNotFoundError: when the dataset has no keys.
        """
        if self._keys is None:
            info = self.snapshot.keys
            if info is None:
                raise KeyNotFoundError(
                    f"{self.root} has no keys; write it with key=, or add them by index_keys(place, column)"
                )
            segments = {segment.file: segment for segment in info.segments}
            self._keys = Keys(info, self.snapshot.shards, lambda file: self._key_segment(segments[file]))
        return self._keys

    def _key_segment(self, info: ShardInfo) -> ShardReader:
        reading = Reading(check=self._reading.check, key=self._reading.key)
        return self._open_file(f"keys/{info.file}", info, reading).reader

    def _needs(self, rows: Int) -> "list[_Need]":
        """Group rows of the dataset by shard, in the order of first use."""
        shard_of = np.searchsorted(self.first_row, rows, "right") - 1
        return [
            (number, partial(_row_ranges, rows[shard_of == number] - self.first_row[number]))
            for number in dict.fromkeys(shard_of.tolist())
        ]

    def _begin_process(self) -> None:
        self._opened: dict[int, _Opened] = {}
        self._opening: dict[int, threading.Lock] = {}
        self._lock = threading.Lock()
        self._keys: Keys | None = None
        self._first: Job | None = None
        self._process = os.getpid()

    def _at(self, number: int) -> _Opened:
        opened = self._opened.get(number)
        if opened is None or (opened.file is not None and opened.file.retired):
            return self._open(number)
        if opened.file is not None:
            opened.file.touch()
        return opened

    def _open(self, number: int) -> _Opened:
        """Open a shard, once even if several threads want it."""
        with self._lock:
            opening = self._opening.setdefault(number, threading.Lock())
        with opening:
            opened = self._opened.get(number)
            if opened is not None and not (opened.file is not None and opened.file.retired):
                return opened
            info = self.snapshot.shards[number]
            opened = self._open_file(f"shards/{info.file}", info, self._reading)
            if opened.reader.schema != self.snapshot.schema:
                raise FormatError(
                    f"shard {self.store.url(f'shards/{info.file}')} has other columns than version "
                    f"{self.snapshot.version} of the dataset"
                )
            with self._lock:
                self._let_go_of_retired()
                if len(self._opened) >= self._max_open:
                    self._opened.pop(next(iter(self._opened)), None)
                self._opened[number] = opened
                self._opening.pop(number, None)
            return opened

    def _let_go_of_retired(self) -> None:
        """Forget files that the cache took back: as long as they are mapped, their disk is not free."""
        for number, opened in list(self._opened.items()):
            if opened.file is not None and opened.file.retired:
                del self._opened[number]

    def _open_file(self, path: str, info: ShardInfo, reading: Reading) -> _Opened:
        folder = self.store.local
        if folder is not None:
            return _Opened(self._reader(folder / path, info, reading), None)
        try:
            try:
                return self._fetch_end(path, info, reading)
            except (FormatError, CorruptionError):
                return self._fetch_end(path, info, reading)  # what was cached may be older than what is there
        except NotFoundError:
            raise DatasetNotFoundError(
                f"shard {self.store.url(path)} is missing; restore it from a copy or build it again"
            ) from None
        except TruncatedError:
            raise FormatError(
                f"shard {self.store.url(path)} is cut short: it should have {info.size_bytes} bytes; "
                "restore it from a copy"
            ) from None

    def _fetch_end(self, path: str, info: ShardInfo, reading: Reading) -> _Opened:
        file = self._remote(path, info)
        try:
            return _Opened(self._reader(file, info, reading), file)
        except (FormatError, CorruptionError):
            file.discard()
            raise

    def _reader(self, file: Path | RemoteFile, info: ShardInfo, reading: Reading) -> ShardReader:
        reader = ShardReader(
            file,
            check=reading.check,
            key=reading.key,
            decode=reading.decode,
            codecs=reading.codecs,
            allow_pickle=reading.allow_pickle,
            cache=reading.cache(),
        )
        if reader.footer_crc != info.crc32c or reader.rows != info.rows:
            name = file.name if isinstance(file, RemoteFile) else file
            raise CorruptionError(
                f"shard {name} is not the one that version {self.snapshot.version} names; restore it "
                "from a copy"
            )
        return reader

    def _remote(self, path: str, info: ShardInfo) -> RemoteFile:
        access = self._access
        name = f"{path.replace('/', '.')}-{info.crc32c:08x}-{info.size_bytes:x}"
        origin = Origin(self.store, path, info.size_bytes, f"{self.snapshot.dataset_id.hex}/{name}")
        cache = open_cache(access.cache_dir, access.cache_bytes)
        return RemoteFile(origin, cache, pool=access.pool(), hedge=access.hedge)

    def _ensure(self, needs: Sequence["_Need"]) -> None:
        self._wait_for_first()
        self._open_together([number for number, _ in needs])
        begun: list[tuple[RemoteFile, list[Job]]] = []
        for number, ranges in needs:
            reader, file = self._at(number)
            if file is not None and not file.is_local:
                begun.append((file, file.begin(ranges(reader))))
        for file, jobs in begun:
            file.finish(jobs)

    def _wait_for_first(self) -> None:
        """Let the first look-ahead ask before others do: else chance decides in which pieces they ask.

        A process that was forked does not wait: the threads that would do it stayed behind.
        """
        if self._first is not None and self._process == os.getpid():
            self._access.pool().run_here(self._first)
            self._first.wait()

    def _prefetch(self, needs: Sequence["_Need"], piece_bytes: int = 1) -> None:
        self._open_together([number for number, _ in needs])
        for number, ranges in needs:
            reader, file = self._at(number)
            if file is not None and not file.is_local:
                file.prefetch(ranges(reader), self._access.pool().next_priority(), piece_bytes)

    def _prefetch_more(self, needs: Callable[[Any], "list[_Need]"], wanted: Any) -> None:
        """Fetch ahead in larger pieces, unless all is here by now: on a warm cache there is nothing to do."""
        if not self._all_here():
            self._prefetch(needs(wanted), _AHEAD_BYTES)

    def _open_together(self, numbers: Sequence[int]) -> None:
        """Open several shards at once, since each costs a request."""
        closed = [number for number in numbers if number not in self._opened]
        if len(closed) < 2:
            return
        pool = self._access.pool()
        jobs = [pool.submit(Job(0, partial(self._at, number)), NOW) for number in closed]
        for job in jobs:
            pool.run_here(job)
        for job in jobs:
            job.wait()

    def _later(self, work: Callable[[], None]) -> Job:
        pool = self._access.pool()
        return pool.submit(Job(0, work), pool.next_priority())


_Need = tuple[int, Callable[[ShardReader], list[Range]]]
"""A shard's number, and what tells which of its bytes are needed."""


def _row_ranges(rows: Int, reader: ShardReader) -> list[Range]:
    return reader.ranges(rows)


def _look_up_ranges(rows: Int, columns: Sequence[str], reader: ShardReader) -> list[Range]:
    return reader.look_up_ranges(rows, columns)


def _token_needs(column: str, spans: Sequence[TokenSpan]) -> list[_Need]:
    """Group token spans by shard, in the order of first use."""
    by_shard: dict[int, list[tuple[int, int]]] = {}
    for number, start, stop in spans:
        by_shard.setdefault(number, []).append((start, stop))

    def ranges(parts: list[tuple[int, int]], reader: ShardReader) -> list[Range]:
        stream = reader.stream(column)
        return merge_ranges([found for start, stop in parts for found in stream.token_ranges(start, stop)])

    return [(number, partial(ranges, parts)) for number, parts in by_shard.items()]
