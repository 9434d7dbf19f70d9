"""Make the keys of a version: gather what the writers of shards noted, or read the column that is the key."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np

from blixt.data.crypto import Encryption
from blixt.data.crypto import Key as SecretKey
from blixt.data.errors import SchemaError
from blixt.data.key_of import KeyOf, key_bytes, key_getter, shown
from blixt.data.key_segment import Entries, read_entries, write_segment
from blixt.data.keys import DUPLICATES, Keys
from blixt.data.manifest import KeysInfo, Snapshot
from blixt.data.place import Place, as_store, open_file
from blixt.data.schema import Schema
from blixt.data.shard.info import ShardInfo
from blixt.data.store import NotFoundError, Store

_MAX_SEGMENTS = 16


def collect_keys(
    place: Place,
    shards: Sequence[ShardInfo],
    key: KeyOf,
    dataset_id: UUID,
    *,
    duplicates: str = "error",
    encrypt: Encryption | None = None,
    clear: bool = True,
    name: str | None = None,
) -> KeysInfo:
    """Gather the keys that were noted beside new shards into one segment, for `publish(keys=...)`.

    Args:
        place: the dataset; `shards/NAME.keys` lies beside each `shards/NAME.shard`, and is deleted here. A
            shard without it has its key column read, where the key is one.
        shards: the new shards.
        key: the column or the function.
        dataset_id: the dataset's id.
        duplicates: `"error"`, `"first"` or `"last"`.
        encrypt: how the shards are encrypted; the segment is too.
        name: names the segment, so that a second try replaces what a first one left; a fresh name when None.
        clear: delete what was noted beside the shards; False leaves that to the caller, who may try again.

    Raises:
        SchemaError: when a key occurs twice and duplicates are an error.
        ValueError: for an unknown policy.
    """
    if duplicates not in DUPLICATES:
        raise ValueError(f"duplicates must be one of {', '.join(DUPLICATES)}, got {duplicates!r}")
    store, secret = as_store(place), None if encrypt is None else encrypt.key
    parts: list[Entries] = []
    for shard in shards:
        note = f"shards/{Path(shard.file).stem}.keys"
        try:
            parts.append(read_entries(open_file(store, note, secret)))
        except NotFoundError:
            parts.append(column_entries(store, shard.file, key, secret))
    entries = Entries.joined(parts)
    info = KeysInfo(key if isinstance(key, str) else None, duplicates, ())
    refuse_duplicates(info, entries)
    info = replace(info, segments=(put_segment(store, entries, dataset_id, encrypt, name),))
    for shard in shards if clear else ():
        store.delete(f"shards/{Path(shard.file).stem}.keys")
    return info


def open_keys(place: Place, snapshot: Snapshot, key: SecretKey | None = None) -> Keys | None:
    """Open the keys of a version; None when it has none."""
    store = as_store(place)
    if snapshot.keys is None:
        return None
    return Keys(snapshot.keys, snapshot.shards, lambda file: open_file(store, f"keys/{file}", key))


def join_keys(
    store: Store, base: Snapshot, new: KeysInfo | None, encrypt: Encryption | None
) -> KeysInfo | None:
    """Return the keys of a version and of shards that are added to it.

    Raises:
        SchemaError: when the two have different keys, or a key occurs in both and duplicates are an error.
    """
    old = base.keys
    if old is None and new is None:
        return None
    if old is None or new is None or (old.column, old.duplicates) != (new.column, new.duplicates):
        raise SchemaError(
            f"cannot append to {store.location}: its keys are {old and (old.column, old.duplicates)} and "
            f"those of the new samples {new and (new.column, new.duplicates)}; write both with the same key"
        )
    secret = None if encrypt is None else encrypt.key
    present = Keys(old, base.shards, lambda file: open_file(store, f"keys/{file}", secret))
    joined = replace(new, segments=(*old.segments, *new.segments))
    if old.duplicates != "error" and len(joined.segments) <= _MAX_SEGMENTS:
        return joined
    added = Entries.joined(read_entries(open_file(store, f"keys/{one.file}", secret)) for one in new.segments)
    if old.duplicates == "error":
        for stored in added.keys:
            if present.rows_of(stored):
                raise _twice(stored)
    if len(joined.segments) <= _MAX_SEGMENTS:
        return joined
    whole = Entries.joined([present.entries(), added])
    return replace(new, segments=(put_segment(store, whole, base.dataset_id, encrypt),))


def put_segment(
    store: Store,
    entries: Entries,
    dataset_id: UUID | None,
    encrypt: Encryption | None,
    name: str | None = None,
) -> ShardInfo:
    """Write a segment to `keys/` of the store."""
    with tempfile.TemporaryDirectory(prefix="blixt-keys-") as folder:
        path = Path(folder) / f"{name or uuid4().hex}.keys"
        info: ShardInfo = write_segment(path, entries, dataset_id, encrypt)
        store.put_file(f"keys/{info.file}", path)
    return info


def refuse_duplicates(info: KeysInfo, entries: Entries) -> None:
    """Refuse a key that occurs twice, where that is an error.

    Raises:
        SchemaError: naming the key.
    """
    if info.duplicates == "error" and (twice := entries.duplicate()) is not None:
        raise _twice(twice)


def _twice(stored: bytes) -> SchemaError:
    return SchemaError(
        f"key {shown(stored)} occurs more than once; make keys unique, or choose duplicates='first' or 'last'"
    )


def column_entries(store: Store, file: str, key: KeyOf, secret: SecretKey | None) -> Entries:
    """Return the keys of a shard, read from the column that is the key."""
    if not isinstance(key, str):
        raise SchemaError(f"the keys of shard {file} were not noted when it was written; write it with key=")
    reader = open_file(store, f"shards/{file}", secret)
    _check_column(reader.schema, key)
    values: Any = reader.gather(key, np.arange(reader.rows))
    keys = [key_bytes(value) for value in (values.tolist() if isinstance(values, np.ndarray) else values)]
    return Entries([file], [0] * len(keys), range(len(keys)), keys)


def key_entries(store: Store, file: str, key: KeyOf, secret: SecretKey | None) -> Entries:
    """Return the keys of a shard: its column, or what a function makes of each of its samples."""
    if isinstance(key, str):
        return column_entries(store, file, key, secret)
    reader = open_file(store, f"shards/{file}", secret)
    get = key_getter(key)
    return Entries(
        [file], [0] * reader.rows, range(reader.rows), [get(reader.sample(row)) for row in range(reader.rows)]
    )


def _check_column(schema: Schema, name: str) -> None:
    column = next((column for column in schema.columns if column.name == name), None)
    if column is None or column.type not in ("utf8", "bytes", "int"):
        has = ", ".join(f"{column.name} ({column.describe()})" for column in schema.columns)
        raise SchemaError(
            f"column {name!r} cannot be the key: it must hold text, bytes or int; there is {has}"
        )
