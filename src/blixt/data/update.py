"""Change single rows of a dataset: a new version writes the touched shards anew and shares all others."""

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from blixt.data.crypto import Encryption
from blixt.data.encode import compile_encoder
from blixt.data.errors import ConflictError, DataError, KeyNotFoundError, SchemaError
from blixt.data.key_index import key_entries, put_segment, refuse_duplicates
from blixt.data.key_of import Key, KeyOf, key_bytes, key_getter, shown
from blixt.data.key_segment import Entries
from blixt.data.keys import DUPLICATES, Keys
from blixt.data.manifest import KeysInfo, Snapshot
from blixt.data.place import Place, as_store, open_file
from blixt.data.shard.info import ShardInfo
from blixt.data.shard.table import ShardTable
from blixt.data.shard.write import ShardWriter
from blixt.data.snapshot import commit, load
from blixt.data.store import Store

_GONE = object()
Changes = dict[int, dict[int, Any]]
"""By shard, by row in it: the new sample, or `_GONE`."""


def update(
    place: Place,
    samples: Mapping[Key, Any],
    *,
    compress: str | None = None,
    encrypt: Encryption | None = None,
    allow_pickle: bool = False,
) -> Snapshot:
    """Replace samples by key, in place, as one new version.

    Args:
        place: the dataset, which has keys.
        samples: the new sample of each key; it must have the same columns, and the same key in it where the
            key is a column.
        compress: how the touched shards are compressed, as for `optimize`.
        encrypt: how the dataset is encrypted.
        allow_pickle: store `Pickle(...)` values.

    Raises:
        KeyNotFoundError: when a key is not there, or the dataset has no keys.
        SchemaError: when a sample does not fit.
        ConflictError: when another writer changed one of the touched shards meanwhile.
    """
    store, base, keys = _open(place, encrypt)
    getter = key_getter(base.keys.column) if base.keys is not None and base.keys.column else None
    encode = compile_encoder(base.schema)
    changes: Changes = {}
    for key, sample in samples.items():
        values = encode(sample, f"the new sample of key {key!r}")
        if getter is not None and getter(sample) != key_bytes(key):
            raise SchemaError(
                f"the new sample of key {key!r} has key {shown(getter(sample))} in it; make them equal"
            )
        _note(changes, base, keys.find(key), values)
    return _Rewrite(store, base, compress, encrypt, allow_pickle).publish(changes)


def delete(
    place: Place,
    *,
    keys: Iterable[Key] = (),
    rows: Iterable[int] = (),
    where: Callable[[Any], bool] | None = None,
    compress: str | None = None,
    encrypt: Encryption | None = None,
    allow_pickle: bool = False,
) -> Snapshot:
    """Leave rows out, as one new version; the rows after them move up.

    The bytes are gone for good once `prune` has forgotten the versions before.

    Args:
        place: the dataset.
        keys: samples to leave out, by key; all rows of a key that occurs more than once.
        rows: samples to leave out, by row; negative ones count from the end.
        where: called with every sample; those for which it is true are left out.
        compress: how the touched shards are compressed, as for `optimize`.
        encrypt: how the dataset is encrypted.
        allow_pickle: give `where` the objects of columns of pickles.

    Raises:
        KeyNotFoundError: when a key is not there, or the dataset has no keys.
        IndexError: when a row is not there.
        DataError: when nothing would be left.
        ConflictError: when another writer changed one of the touched shards meanwhile.
    """
    chosen = list(keys)
    store, base, known = _open(place, encrypt, needed=bool(chosen))
    changes: Changes = {}
    for key in chosen:
        known.find(key)
        for row in known.find_all(key):
            _note(changes, base, row, _GONE)
    for row in rows:
        if not -base.rows <= row < base.rows:
            raise IndexError(f"row {row} is out of range: the dataset has {base.rows}")
        _note(changes, base, row % base.rows, _GONE)
    if where is not None:
        secret = None if encrypt is None else encrypt.key
        for shard, file in enumerate(base.shards.files()):
            reader = open_file(store, f"shards/{file}", secret, allow_pickle=allow_pickle)
            for row in range(reader.rows):
                if where(reader.sample(row)):
                    changes.setdefault(shard, {})[row] = _GONE
    return _Rewrite(store, base, compress, encrypt, True).publish(changes)


def index_keys(
    place: Place,
    column: KeyOf,
    *,
    duplicates: str = "error",
    encrypt: Encryption | None = None,
) -> Snapshot:
    """Give an existing dataset keys: a version with the same shards whose rows are found by a column.

    Args:
        place: the dataset.
        column: a column of text, whole numbers or bytes, or a function from a sample to its key.
        duplicates: what a key that occurs more than once means: `"error"`, `"first"` or `"last"`.
        encrypt: how the dataset is encrypted; the table of keys is too.

    Raises:
        SchemaError: when there is no such column, or a key occurs twice and duplicates are an error.
        ValueError: for an unknown policy.
    """
    store = as_store(place)
    if duplicates not in DUPLICATES:
        raise ValueError(f"duplicates must be one of {', '.join(DUPLICATES)}, got {duplicates!r}")
    secret = None if encrypt is None else encrypt.key

    def change(base: Snapshot | None) -> Snapshot:
        snapshot = base or load(store)
        files = snapshot.shards.files()
        entries = Entries.joined(key_entries(store, file, column, secret) for file in files)
        info = KeysInfo(column if isinstance(column, str) else None, duplicates, ())
        refuse_duplicates(info, entries)
        segment = put_segment(store, entries, snapshot.dataset_id, encrypt)
        return _next(snapshot, snapshot.shards, replace(info, segments=(segment,)))

    return commit(store, change)


class _Rewrite:
    """Writes touched shards anew and publishes them in the place of the old ones."""

    def __init__(
        self,
        store: Store,
        base: Snapshot,
        compress: str | None,
        encrypt: Encryption | None,
        allow_pickle: bool,
    ) -> None:
        self._store, self._base = store, base
        self._options: dict[str, Any] = {
            "compress": compress,
            "encrypt": encrypt,
            "allow_pickle": allow_pickle,
            "schema": base.schema,
            "dataset_id": base.dataset_id,
        }
        self._encrypt = encrypt
        self._secret = None if encrypt is None else encrypt.key

    def publish(self, changes: Changes) -> Snapshot:
        if not changes:
            return self._base
        files = {shard: self._base.shards[shard].file for shard in changes}
        replaced = {files[shard]: self._write(shard, rows) for shard, rows in changes.items()}
        keys = self._keys(changes, replaced)

        def change(latest: Snapshot | None) -> Snapshot:
            base = latest or self._base
            lost = set(replaced) - set(base.shards.files())
            if lost:
                raise ConflictError(
                    f"another writer changed shard {min(lost)} of {self._store.location} meanwhile; run "
                    "the update again"
                )
            shards = [new for old in base.shards if (new := replaced.get(old.file, old)) is not None]
            if not shards:
                raise DataError(f"nothing would be left of {self._store.location}; delete the folder instead")
            merged = None
            if base.keys is not None:
                merged = replace(base.keys, segments=(*base.keys.segments, *keys))
            return _next(base, ShardTable.of(shards), merged)

        try:
            return commit(self._store, change)
        except DataError:
            for info in replaced.values():
                if info is not None:
                    self._store.delete(f"shards/{info.file}")
            raise

    def _write(self, shard: int, rows: Mapping[int, Any]) -> ShardInfo | None:
        """Write a shard with the changed rows; None when no row is left."""
        reader = open_file(self._store, f"shards/{self._base.shards[shard].file}", self._secret, decode=False)
        if len(rows) == reader.rows and all(sample is _GONE for sample in rows.values()):
            return None
        with tempfile.TemporaryDirectory(prefix="blixt-update-") as folder:
            path = Path(folder) / f"{uuid4().hex[:12]}-update.shard"
            with ShardWriter(path, **self._options) as writer:
                for row in range(reader.rows):
                    values = rows.get(row)
                    if values is not _GONE:
                        writer.write_values(reader.stored(row) if values is None else values)
                reader.confirm()
            info = writer.close()
            self._store.put_file(f"shards/{info.file}", path)
        return info

    def _keys(self, changes: Changes, replaced: Mapping[str, ShardInfo | None]) -> tuple[ShardInfo, ...]:
        """Write the keys of the new shards: those of the old ones, less the rows that are gone."""
        if self._base.keys is None:
            return ()
        entries = _known_keys(self._store, self._base, self._secret).entries()
        numbers = {file: number for number, file in enumerate(self._base.shards.files())}
        moved = Entries([], [], [], [])
        for number, (file, info) in enumerate(replaced.items()):
            moved.shards.append("" if info is None else info.file)
            gone = {row for row, sample in changes[numbers[file]].items() if sample is _GONE}
            kept = np.cumsum([row not in gone for row in range(self._base.shards[numbers[file]].rows)]) - 1
            for shard, row, key in zip(entries.shard, entries.row, entries.keys, strict=True):
                if entries.shards[shard] == file and row not in gone:
                    moved.shard.append(number)
                    moved.row.append(int(kept[row]))
                    moved.keys.append(key)
        if not len(moved):
            return ()
        return (put_segment(self._store, moved, self._base.dataset_id, self._encrypt),)


def _open(place: Place, encrypt: Encryption | None, needed: bool = True) -> tuple[Store, Snapshot, Keys]:
    store = as_store(place)
    base = load(store)
    if base.keys is None and needed:
        raise KeyNotFoundError(
            f"{store.location} has no keys; write it with key=, or give it keys with index_keys(..., column)"
        )
    return store, base, _known_keys(store, base, None if encrypt is None else encrypt.key)


def _known_keys(store: Store, base: Snapshot, secret: Any) -> Keys:
    info = base.keys or KeysInfo(None, "error", ())
    return Keys(info, base.shards, lambda file: open_file(store, f"keys/{file}", secret))


def _note(changes: Changes, base: Snapshot, row: int, sample: Any) -> None:
    shard = int(np.searchsorted(base.first_row, row, "right")) - 1
    changes.setdefault(shard, {})[row - int(base.first_row[shard])] = sample


def _next(base: Snapshot, shards: ShardTable, keys: KeysInfo | None) -> Snapshot:
    return replace(base, version=base.version + 1, shards=shards, created_at=time.time(), job=None, keys=keys)
