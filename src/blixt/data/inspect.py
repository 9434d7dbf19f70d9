"""Look at a dataset: what it holds, its first samples, and whether every byte is as it was written."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blixt.data.crypto import Key
from blixt.data.dataset import Dataset
from blixt.data.errors import CorruptionError, DataError, DecryptionError
from blixt.data.index import INDEX, decode_index
from blixt.data.place import Place, as_store, open_file, read_stats
from blixt.data.schema import Schema
from blixt.data.shard.info import ShardInfo
from blixt.data.snapshot import load, versions
from blixt.data.store import Credentials, NotFoundError, Store

_FEW_SHARDS, _FEW_FAR_SHARDS = 1000, 32
"""Of so many shards `info` reads the footers: on this machine, and elsewhere."""


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found."""

    shards: int
    rows: int
    size_bytes: int
    problems: list[str]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def info(
    place: Place,
    version: int | None = None,
    *,
    credentials: Credentials = None,
    options: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return what a dataset holds, as plain JSON-able values.

    Args:
        place: the dataset.
        version: the snapshot to describe; the newest when None.
        credentials: for the store, as for `Dataset`.
        options: for the store, as for `Dataset`.

    Returns:
        Among others `columns` (type by name), `versions` for a dataset on this machine, and `column_bytes`
        where there are few shards.

    Raises:
        DatasetNotFoundError: when there is no dataset.
    """
    store = as_store(place, credentials, options)
    snapshot = load(store, version)
    sizes = snapshot.shards.size_bytes.tolist()
    found: dict[str, Any] = {
        "path": store.location,
        "dataset_id": str(snapshot.dataset_id),
        "version": snapshot.version,
        "created_at": snapshot.created_at,
        "rows": snapshot.rows,
        "size_bytes": snapshot.size_bytes,
        "shards": len(snapshot.shards),
        "shard_bytes": {"smallest": min(sizes, default=0), "largest": max(sizes, default=0)},
        "columns": {column.name: column.describe() for column in snapshot.schema.columns},
        "tokens": {
            column.name: snapshot.tokens(column.name)
            for column in snapshot.schema.columns
            if column.kind == "stream"
        },
        "keys": None if snapshot.keys is None else snapshot.keys.column or "made by a function",
    }
    if store.local is not None:
        found["versions"] = sorted(versions(store))
    if len(snapshot.shards) <= (_FEW_FAR_SHARDS if store.local is None else _FEW_SHARDS):
        found["column_bytes"] = {
            name: stats["bytes"]
            for name, stats in statistics(store, snapshot.version).items()
            if "bytes" in stats
        }
    return found


def head(place: Place, n: int = 5, version: int | None = None, **options: Any) -> list[Any]:
    """Return the first `n` samples as they were written; `options` as for `Dataset`."""
    return Dataset(place, version=version, **options)[:n]


def statistics(place: Place, version: int | None = None) -> dict[str, dict[str, Any]]:
    """Return sizes and ranges of each column, joined from what the shards' footers say.

    The end of every shard is read. Encrypted shards say nothing of their content.

    Returns:
        By column: `bytes`, and where known `min` and `max`, or `min_bytes` and `max_bytes`.
    """
    store = as_store(place)
    found: dict[str, dict[str, Any]] = {}
    for file in load(store, version).shards.files():
        for name, stats in read_stats(store, f"shards/{file}").items():
            if name in found:
                _join(found[name], stats)
            else:
                found[name] = dict(stats)
    return found


def verify(
    place: Place,
    version: int | None = None,
    *,
    key: Key | None = None,
    credentials: Credentials = None,
    options: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Read every file of a version, and compare each block with its checksum.

    Args:
        place: the dataset.
        version: the snapshot to check; the newest when None.
        key: the key of an encrypted dataset; needed to look into its blocks.
        credentials: for the store, as for `Dataset`.
        options: for the store, as for `Dataset`.
        progress: called with the number of shards that were checked, and of all.

    Returns:
        A report; its `problems` name file, block and byte range.

    Raises:
        DatasetNotFoundError, CorruptionError: when the snapshot itself cannot be read.
        DecryptionError: when the dataset is encrypted, and with another key or none.
    """
    store = as_store(place, credentials, options)
    newest = max(versions(store), default=None)
    snapshot = load(store, newest if version is None else version)
    problems = [*_index_problems(store), *_version_problems(store)]
    for number, shard in enumerate(snapshot.shards):
        if progress is not None:
            progress(number, len(snapshot.shards))
        problems += _file_problems(store, "shards", shard, snapshot.schema, key)
    for segment in () if snapshot.keys is None else snapshot.keys.segments:
        problems += _file_problems(store, "keys", segment, None, key)
    if progress is not None:
        progress(len(snapshot.shards), len(snapshot.shards))
    texts = [str(problem) for problem in problems]
    return Report(len(snapshot.shards), snapshot.rows, snapshot.size_bytes, texts)


def _file_problems(
    store: Store, folder: str, info: ShardInfo, schema: Schema | None, key: Key | None
) -> Iterator[DataError]:
    path = f"{folder}/{info.file}"
    name = f"shard {store.url(path)}"
    try:
        size = store.size(path)
        if size is not None and size < info.size_bytes:
            yield CorruptionError(
                f"{name} was cut short: it has {size} bytes and not {info.size_bytes}, bytes {size} to "
                f"{info.size_bytes} are missing; restore it from a copy"
            )
        reader = open_file(store, path, key, decode=False)
    except NotFoundError as problem:
        yield CorruptionError(f"{name} is missing; restore it from a copy or build it again ({problem})")
        return
    except DecryptionError:
        raise  # what cannot be looked into is not damaged
    except DataError as problem:
        yield problem
        return
    if reader.footer_crc != info.crc32c or reader.rows != info.rows or (schema and reader.schema != schema):
        yield CorruptionError(f"{name} is another one than the version names; restore it from a copy")
    yield from reader.problems()


def _index_problems(store: Store) -> Iterator[DataError]:
    try:
        newest = decode_index(store.get(INDEX), store.url(INDEX))
        if load(store, newest.version) != newest:
            yield CorruptionError(
                f"{store.url(INDEX)} says other things than versions/{newest.version}.json; delete it"
            )
    except NotFoundError:
        pass
    except DataError as problem:
        yield problem
    try:
        summary = json.loads(store.get("index.json"))
        stated = load(store, int(summary["version"]))
        if summary != json.loads(json.dumps({**stated.summary(), "shards": len(stated.shards)})):
            yield CorruptionError(
                f"{store.url('index.json')} is damaged: it says other things than its version"
            )
    except NotFoundError:
        pass
    except (ValueError, KeyError, TypeError, RecursionError):
        yield CorruptionError(f"{store.url('index.json')} is damaged: it is no summary; delete it")
    except DataError as problem:
        yield CorruptionError(f"{store.url('index.json')} is damaged or names a version that is ({problem})")


def _version_problems(store: Store) -> Iterator[DataError]:
    for version in sorted(versions(store)):
        try:
            load(store, version)
        except DataError as problem:
            yield problem


def _join(known: dict[str, Any], more: dict[str, Any]) -> None:
    """Add what another shard says of a column."""
    known["bytes"] = known.get("bytes", 0) + more.get("bytes", 0)
    for least in ("min", "min_bytes"):
        if least in known and least in more:
            known[least] = min(known[least], more[least])
    for greatest in ("max", "max_bytes"):
        if greatest in known and greatest in more:
            known[greatest] = max(known[greatest], more[greatest])
