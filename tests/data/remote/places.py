"""What the tests of remote datasets share: samples, copies of a dataset, and what was asked of a store."""

import multiprocessing
import random
from pathlib import Path
from typing import Any

from blixt.data.store import Store, open_store

from ..servers.faulty import FaultyProxy
from ..servers.seaweed import S3

ROWS = 600
SPAWN = multiprocessing.get_context("forkserver")


def photo(i: int) -> dict[str, Any]:
    """A sample of plain types, about 10 KB: bytes, a number and text."""
    return {"jpeg": random.Random(i).randbytes(10_000 + i % 500), "label": i, "name": f"photo {i}"}


def upload(folder: Path, store: Store) -> None:
    for path, _ in open_store(folder).list():
        store.put_file(path, folder / path)


def copied(s3: S3, folder: Path) -> tuple[Store, str]:
    location = s3.location()
    store = open_store(location, credentials=s3.credentials, options=s3.options)
    upload(folder, store)
    return store, location


def shards_of(store: Store) -> list[str]:
    """Return the paths of the shards in their order."""
    return sorted(path for path, _ in store.list("shards"))


def fetched(proxy: FaultyProxy) -> int:
    """Return the bytes of shards that were asked for."""
    return sum(request.range[1] - request.range[0] for request in proxy.gets(".shard") if request.range)


def size_of(folder: Path) -> int:
    return sum(size for _, size in open_store(folder).list("shards"))
