"""A dataset of files as they are."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from blixt.data.cache import open_cache
from blixt.data.fetch import NOW, Job, fetcher
from blixt.data.order import Int
from blixt.data.raw.files import FilesOnDisk, read_whole
from blixt.data.raw.group import Group, RawFile, each, files_of, filled
from blixt.data.raw.listing import Listing, listing_name
from blixt.data.rows import Allocate, Rows
from blixt.data.sizes import parse_size
from blixt.data.store import Credentials, Location, Store, open_store

Item = Literal["bytes", "path"]


class RawDataset(Rows[Any]):
    """Files of a store as samples: no build, any order, fetched concurrently and ahead of use.

    A sample is the content of a file, or the tree of files that `group` made with each file replaced by its
    content. A batch (`read_batch`, `Loader`) is the list of its samples. Every file costs a request: what is
    read more than once is read many times faster when `optimize` built it into shards.

    Args:
        location: see `blixt.data.store.open_store`; or a store.
        group: takes all files (`RawFile`) and gives the samples, a file or a dict, tuple or list of files; it
            may leave files out. Every file is a sample when None. `by_suffix` makes pairs.
        pattern: only files whose path matches, such as `train/*.jpg`; `*` also stands for `/`.
        item: what a file becomes: its `"bytes"`, or the `"path"` of a file on this machine (in the cache when
            the store is remote), which stays while it is among the last 1024 that were asked for.
        transform: called with each sample.
        listing: the file that keeps the list of files; in the cache folder when None.
        relist: list the files anew.
        ahead_bytes: how much may be fetched ahead of use, such as "64MB".
        shuffle, seed, window, rank, world_size: see `Dataset`.
        credentials, options, cache_dir, cache_bytes: see `Dataset`.

    Raises:
        StoreError: when the store cannot be listed.
        TypeError: when `group` gives something else than files.
    """

    def __init__(
        self,
        location: Location | Store,
        *,
        group: Group | None = None,
        pattern: str | None = None,
        item: Item = "bytes",
        transform: Callable[[Any], Any] | None = None,
        listing: str | Path | None = None,
        relist: bool = False,
        ahead_bytes: int | str = 64 << 20,
        shuffle: bool = False,
        seed: int = 0,
        window: int = 16,
        rank: int | None = None,
        world_size: int | None = None,
        credentials: Credentials = None,
        options: Mapping[str, str] | None = None,
        cache_dir: str | Path | None = None,
        cache_bytes: int | str | None = None,
    ) -> None:
        if item not in ("bytes", "path"):
            raise ValueError(f"item must be 'bytes' or 'path', got {item!r}")
        is_store = isinstance(location, Store)
        self.store = location if is_store else open_store(location, credentials=credentials, options=options)
        self._cache_at = cache_dir, cache_bytes
        self._item: Item = item
        self._transform = transform
        self._ahead_bytes = parse_size(ahead_bytes)
        kept = Path(listing) if listing is not None else None
        found = self._list(kept, pattern, relist)
        self.samples: list[Any] = list((group or each)(found.files))
        self._files: list[list[RawFile]] = [files_of(sample) for sample in self.samples]
        size_bytes = sum(file.size for files in self._files for file in files)
        self._begin_process()
        super().__init__(
            rows=len(self.samples),
            row_bytes=size_bytes / max(len(self.samples), 1),
            identity={"location": self.store.location, "listing": found.crc32c, "samples": len(self.samples)},
            shuffle=shuffle,
            seed=seed,
            window=window,
            rank=rank,
            world_size=world_size,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process without what is being fetched."""
        left = ("_coming", "_lock", "_on_disk")
        return {name: value for name, value in self.__dict__.items() if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._begin_process()

    def gather(self, rows: Int, allocate: Allocate = np.empty) -> list[Any]:
        """Return the rows as a list of samples."""
        return self.items(rows)

    def item(self, row: int) -> Any:
        """Return one sample."""
        return self.items(np.array([row]))[0]

    def items(self, rows: Int) -> list[Any]:
        """Return samples, their files fetched concurrently."""
        numbers: list[int] = rows.tolist()
        wanted = {file.path: file for row in numbers for file in self._files[row]}
        contents = self._contents(list(wanted.values()))
        samples = [filled(self.samples[row], contents) for row in numbers]
        return samples if self._transform is None else [self._transform(sample) for sample in samples]

    def plan_ahead(self, rows: Int) -> None:
        """Begin to fetch what these rows need, in order of use, as far as `ahead_bytes` allows."""
        if self.store.local is not None:
            return
        self._forget_what_nobody_came_for()
        numbers: list[int] = rows.tolist()
        for row in numbers:
            for file in self._files[row]:
                if not self._begin(file):
                    return

    def _list(self, kept: Path | None, pattern: str | None, relist: bool) -> Listing:
        if kept is None and self.store.local is not None:
            return Listing.of(self.store, pattern)
        if kept is None:
            kept = open_cache(*self._cache_at).folder / "raw" / listing_name(self.store.location, pattern)
        return Listing.kept(kept, self.store, pattern, renew=relist)

    def _begin_process(self) -> None:
        self._coming: OrderedDict[str, _Content] = OrderedDict()
        self._plans = 0
        self._lock = threading.Lock()
        self._on_disk: FilesOnDisk | None = None

    def _contents(self, files: Sequence[RawFile]) -> dict[str, Any]:
        """Return the contents of files by path; those that are on their way are waited for."""
        pool = fetcher()
        with self._lock:
            coming = [self._coming.pop(file.path, None) for file in files]
        jobs: list[_Content] = []
        for file, job in zip(files, coming, strict=True):
            if job is None:
                job = self._content(file)
                pool.submit(job, NOW)
            else:
                pool.hurry(job)
            jobs.append(job)
        for job in reversed(jobs):
            pool.run_here(job)
        for job in jobs:
            job.wait()
            if job.problem is not None:
                raise job.problem
        return {file.path: job.content for file, job in zip(files, jobs, strict=True)}

    def _begin(self, file: RawFile) -> bool:
        """Begin to fetch a file ahead; return False when no more may be on its way."""
        with self._lock:
            if file.path in self._coming:
                return True
            if sum(job.size_bytes for job in self._coming.values()) + file.size > self._ahead_bytes:
                return False
            job = self._coming[file.path] = self._content(file)
            job.plan = self._plans
        pool = fetcher()
        pool.submit(job, pool.next_priority())
        return True

    def _forget_what_nobody_came_for(self) -> None:
        """Drop what was asked for three calls ago: an iteration that was left would block the next one."""
        with self._lock:
            self._plans += 1
            for path in [path for path, job in self._coming.items() if job.plan < self._plans - 3]:
                del self._coming[path]

    def _content(self, file: RawFile) -> "_Content":
        if self._item == "bytes":
            return _Content(file.size, lambda: read_whole(self.store, file))
        if self._on_disk is None:
            self._on_disk = FilesOnDisk(self.store, open_cache(*self._cache_at))
        on_disk = self._on_disk
        return _Content(min(file.size, 8 << 20), lambda: on_disk.path(file))


class _Content(Job):
    """Fetches the content of a file."""

    def __init__(self, size_bytes: int, fetch: Callable[[], Any]) -> None:
        super().__init__(size_bytes, self._fetch)
        self._fetch_content = fetch
        self.content: Any = None
        self.plan = 0

    def _fetch(self) -> None:
        self.content = self._fetch_content()
