"""Where a dataset lies: a path, an address such as `s3://bucket/folder`, or a `Store`; its files opened."""

import mmap
from collections.abc import Mapping
from typing import Any

from blixt.data.crypto import Key
from blixt.data.shard.frame import read_frame
from blixt.data.shard.layout import TAIL_BYTES, TRAILER
from blixt.data.shard.mapped import MappedFile, MemoryFile
from blixt.data.shard.read import ShardReader
from blixt.data.store import Credentials, Location, NotFoundError, Store, open_store

Place = Store | Location


def as_store(
    place: Place, credentials: Credentials = None, options: Mapping[str, str] | None = None
) -> Store:
    """Return the store of a dataset's place."""
    return place if isinstance(place, Store) else open_store(place, credentials=credentials, options=options)


def read_stats(store: Store, path: str) -> dict[str, Any]:
    """Return what a shard's footer says of its columns, having read its end; empty for an encrypted one."""
    if store.local is not None:
        return read_frame(MappedFile(store.local / path)).stats
    tail, size = store.get_tail(path, TAIL_BYTES)
    needed = TRAILER.size + (TRAILER.unpack(tail[-TRAILER.size :])[0] if len(tail) >= TRAILER.size else 0)
    if len(tail) < needed <= size:
        tail, size = store.get_tail(path, needed)
    sparse = mmap.mmap(-1, max(size, 1))  # memory is taken only where bytes are put
    sparse[size - len(tail) : size] = tail
    return read_frame(MemoryFile(store.url(path), memoryview(sparse)[:size])).stats


def open_file(place: Place, path: str, key: Key | None = None, **options: Any) -> ShardReader:
    """Open a shard file of a store by its path: mapped where it is local, else fetched whole.

    Raises:
        NotFoundError: when it is not there.
    """
    store = as_store(place)
    if store.local is None:
        return ShardReader(MemoryFile(store.url(path), store.get(path)), key=key, **options)
    if store.size(path) is None:
        raise NotFoundError(f"{store.url(path)} is missing; restore it from a copy or build it again")
    return ShardReader(MappedFile(store.local / path), key=key, **options)
