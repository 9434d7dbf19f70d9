"""Versions of a dataset: immutable shards, and one file per version whose exclusive creation is the commit.

DIR/shards/*.shard       never changed once they have their name
DIR/versions/1.json ...  one snapshot each; the highest number is the current version
DIR/index.bin            the newest snapshot, compact: what readers ask for first
DIR/index.json           a summary of the newest snapshot, for people

Wherever a function takes a dataset's place, it is a path, an address such as `s3://bucket/folder`, or a
`Store`.
"""

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid4

from blixt.data.crypto import Encryption
from blixt.data.errors import CorruptionError, DatasetExistsError, DatasetNotFoundError, SchemaError
from blixt.data.index import INDEX, decode_index, encode_index
from blixt.data.key_index import join_keys
from blixt.data.manifest import KeysInfo, Snapshot
from blixt.data.place import Place, as_store
from blixt.data.schema import Schema
from blixt.data.shard.info import ShardInfo
from blixt.data.shard.layout import crc32c
from blixt.data.shard.table import ShardTable
from blixt.data.store import NotFoundError, Store

__all__ = [
    "MODES",
    "KeysInfo",
    "Mode",
    "Place",
    "Snapshot",
    "as_store",
    "check_mode",
    "commit",
    "find_job",
    "latest_version",
    "load",
    "prune",
    "publish",
    "referenced_files",
    "versions",
]

_FEW_SHARDS = 1000
"""Of so many shards a version is written with line breaks, for people."""
Mode = Literal["error", "append", "overwrite"]
MODES: tuple[Mode, ...] = ("error", "append", "overwrite")


def check_mode(place: Place, mode: str, *, look: bool = True) -> None:
    """Refuse a mode that does not exist, or a second dataset where mode "error" allows only a first.

    Args:
        place: the dataset.
        mode: what was asked for.
        look: whether to look if there is a dataset.

    Raises:
        ValueError: for an unknown mode.
        DatasetExistsError: when the mode is "error" and there is a dataset.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if look and mode == "error":
        store = as_store(place)
        if versions(store):
            raise DatasetExistsError(
                f"{store.location} already holds a dataset; choose mode='append' or mode='overwrite', or "
                "another place"
            )


def latest_version(place: Place) -> int:
    """Return the newest version's number, 0 when there is none."""
    return max(versions(as_store(place)), default=0)


def load(place: Place, version: int | None = None) -> Snapshot:
    """Read a version of the dataset, the newest when None.

    The newest one takes a single GET (`index.bin`) and a look whether a newer one has just been published.

    Raises:
        DatasetNotFoundError: when the dataset or the version is not there.
        FormatError, CorruptionError: when the snapshot cannot be read.
    """
    store = as_store(place)
    if version is not None:
        return _load_version(store, version)
    try:
        newest = decode_index(store.get(INDEX), store.url(INDEX))
    except NotFoundError:
        return _load_newest_listed(store)
    number = newest.version
    while store.size(_path(number + 1)) is not None:
        number += 1
    return newest if number == newest.version else _load_version(store, number)


def publish(
    place: Place,
    dataset_id: UUID,
    schema: Schema,
    shards: Iterable[ShardInfo],
    mode: Mode,
    *,
    job: str | None = None,
    since: int = 0,
    keys: KeysInfo | None = None,
    encrypt: Encryption | None = None,
) -> Snapshot:
    """Make the shards, which lie in `shards/` already, the next version of the dataset, all at once.

    Two publishers may race: each version number is won by one of them, and an append that loses tries the
    next. A job that was published already (by another node, or before a crash) is not published again.

    Args:
        place: the dataset.
        dataset_id: the id of a new dataset; an append keeps the old one.
        schema: the columns of the shards.
        shards: in order.
        mode: "error" for a first version only, "append" to the newest, or "overwrite" it.
        job: the name of the build that made the shards.
        since: the version before the job began; only newer ones are looked through for the job's name.
        keys: the keys of the new shards (see `collect_keys`); an append adds them to those of the newest
            version.
        encrypt: how the dataset is encrypted, to read and write its keys.

    Raises:
        DatasetExistsError: in mode "error" when a dataset is there.
        SchemaError: in mode "append" when the columns differ, or a key occurs twice where that is an error.
        WriteError: when the disk refuses.
    """
    store, new = as_store(place), tuple(shards)
    check_mode(store, mode, look=False)

    def change(base: Snapshot | None) -> Snapshot:
        if job is not None and (done := find_job(store, job, since)) is not None:
            return done
        if base is None or mode == "overwrite":
            version = 1 if base is None else base.version + 1
            return Snapshot(dataset_id, version, schema, ShardTable.of(new), time.time(), job, keys)
        check_mode(store, mode)
        if base.schema != schema:
            raise SchemaError(_difference(store, base.schema, schema))
        return replace(
            base,
            version=base.version + 1,
            shards=ShardTable.of((*base.shards, *new)),
            created_at=time.time(),
            job=job,
            keys=join_keys(store, base, keys, encrypt),
        )

    return commit(store, change)


def commit(place: Place, change: Callable[[Snapshot | None], Snapshot]) -> Snapshot:
    """Publish what a function makes of the newest version; it is asked again when another writer was faster.

    Args:
        place: the dataset.
        change: given the newest version (None when there is none) it returns the next one, or one that exists
            already, which then is the result.

    Raises:
        WriteError: when the disk refuses.
    """
    store = as_store(place)
    while True:
        base = _newest(store)
        snapshot = change(base)
        if base is not None and snapshot.version <= base.version:
            return snapshot
        if _create(store, snapshot):
            return snapshot


def find_job(place: Place, job: str, since: int = 0) -> Snapshot | None:
    """Return the version newer than `since` that a build of this name published, None when there is none."""
    store = as_store(place)
    for version in sorted(versions(store), reverse=True):
        if version <= since:
            return None
        snapshot = _load_version(store, version)
        if snapshot.job == job:
            return snapshot
    return None


def referenced_files(place: Place) -> set[str]:
    """Return the names of all shards that some version names."""
    store = as_store(place)
    return {file for version in versions(store) for file in _load_version(store, version).shards.files()}


def prune(place: Place, keep: int = 1) -> list[str]:
    """Forget all but the newest versions, and delete the shards that only the forgotten ones name.

    A reader that still has an old version open keeps what it has mapped, but cannot open more of it.

    Args:
        place: the dataset.
        keep: how many versions stay.

    Returns:
        The names of the deleted shards.

    Raises:
        ValueError: when no version would be left.
        DatasetNotFoundError: when there is no dataset.
    """
    store = as_store(place)
    if keep < 1:
        raise ValueError(
            f"keep must be at least 1, got {keep}; delete the folder {store.location} to remove all of it"
        )
    snapshots = [_load_version(store, version) for version in sorted(versions(store))] or [load(store)]
    _write_index(store, snapshots[-1])
    forgotten, kept = snapshots[:-keep], snapshots[-keep:]
    for snapshot in forgotten:
        store.delete(_path(snapshot.version))
    files = _files(forgotten) - _files(kept)
    for file in sorted(files):
        store.delete(file)
    return sorted(file.removeprefix("shards/") for file in files if file.startswith("shards/"))


def _files(snapshots: list[Snapshot]) -> set[str]:
    """Return the paths of all files that the snapshots name."""
    shards = {f"shards/{file}" for snapshot in snapshots for file in snapshot.shards.files()}
    keys = {f"keys/{one.file}" for snapshot in snapshots if snapshot.keys for one in snapshot.keys.segments}
    return shards | keys


def _load_version(store: Store, version: int) -> Snapshot:
    name = store.url(_path(version))
    try:
        data = store.get(_path(version))
    except NotFoundError:
        known = sorted(versions(store))
        if not known:
            raise _no_dataset(store) from None
        raise DatasetNotFoundError(
            f"{store.location} has no version {version}; it has {', '.join(map(str, known))}"
        ) from None
    try:
        stored: dict[str, Any] = json.loads(data)
        expected = stored.pop("crc32c")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise CorruptionError(
            f"snapshot {name} is damaged: it is not complete JSON; restore it from a copy"
        ) from None
    if crc32c(_canonical(stored)) != expected:
        raise CorruptionError(
            f"snapshot {name} is damaged: its checksum does not match; restore it from a copy"
        )
    snapshot = Snapshot.from_json(stored, name)
    if snapshot.version != version:
        raise CorruptionError(f"snapshot {name} says that it is version {snapshot.version}; restore it")
    return snapshot


def _newest(store: Store) -> Snapshot | None:
    """Return the newest version, None when there is none yet."""
    try:
        return load(store)
    except DatasetNotFoundError:
        return None


def _load_newest_listed(store: Store) -> Snapshot:
    known = versions(store)
    if not known:
        raise _no_dataset(store)
    return _load_version(store, max(known))


def _no_dataset(store: Store) -> DatasetNotFoundError:
    return DatasetNotFoundError(
        f"{store.location} holds no blixt dataset (no {INDEX}, no versions/*.json); write one with optimize()"
    )


def _create(store: Store, snapshot: Snapshot) -> bool:
    """Create the version's file with its whole content, or return False because someone else did."""
    stored = {**snapshot.to_json(), "commit": uuid4().hex}
    indent = 1 if len(snapshot.shards) <= _FEW_SHARDS else None
    text = json.dumps({**stored, "crc32c": crc32c(_canonical(stored))}, indent=indent).encode()
    if store.local is not None:
        _sync_folder(store.local / "shards")
    if not store.put_if_absent(_path(snapshot.version), text):
        return False
    _write_index(store, snapshot)
    return True


def _write_index(store: Store, snapshot: Snapshot) -> None:
    """Tell readers of the newest version; one that finds an older one looks for newer ones itself."""
    store.put(INDEX, encode_index(snapshot))
    summary = {**snapshot.summary(), "shards": len(snapshot.shards)}
    store.put("index.json", json.dumps(summary, indent=1).encode())


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    if folder.is_dir():
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _path(version: int) -> str:
    return f"versions/{version}.json"


def versions(place: Place) -> set[int]:
    """Return the numbers of all versions."""
    store = as_store(place)
    names = [path.removeprefix("versions/").removesuffix(".json") for path, _ in store.list("versions")]
    return {int(name) for name in names if name.isascii() and name.isdecimal()}


def _canonical(stored: dict[str, Any]) -> bytes:
    return json.dumps(stored, sort_keys=True, separators=(",", ":")).encode()


def _difference(store: Store, old: Schema, new: Schema) -> str:
    before = {column.name: column.describe() for column in old.columns}
    after = {column.name: column.describe() for column in new.columns}
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    changes = ", ".join(
        f"{name!r} is {before.get(name, 'absent')} and not {after.get(name, 'absent')}" for name in names
    )
    return (
        f"cannot append to {store.location}: its columns differ ({changes or 'their nesting differs'}); "
        "write a new dataset"
    )
