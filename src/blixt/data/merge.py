"""Several datasets of the same columns become one: their shards are copied, not written anew."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from blixt.data.crypto import Encryption
from blixt.data.errors import DataError, SchemaError
from blixt.data.key_index import put_segment, refuse_duplicates
from blixt.data.key_segment import Entries
from blixt.data.keys import Keys
from blixt.data.manifest import KeysInfo, Snapshot
from blixt.data.place import Place, as_store, open_file
from blixt.data.shard.info import ShardInfo
from blixt.data.snapshot import Mode, check_mode, latest_version, load, publish, referenced_files
from blixt.data.store import Store


def merge(
    sources: Sequence[Place], output: Place, *, mode: Mode = "error", encrypt: Encryption | None = None
) -> Snapshot:
    """Publish one version in `output` that holds the newest versions of all sources, in their order.

    Between local folders on one disk shards are hard links, so nothing is copied at all.

    Args:
        sources: the datasets; all have the same columns, and the same key or none.
        output: the place of the merged dataset.
        mode: "error" when a dataset is there, "append" to it, or "overwrite" it.
        encrypt: how the datasets are encrypted, needed when they have keys.

    Raises:
        SchemaError: when columns or keys differ, or a key occurs twice where that is an error.
        DatasetExistsError: in mode "error" when there is a dataset.
    """
    target = as_store(output)
    check_mode(target, mode)
    stores = [as_store(source) for source in sources]
    snapshots = [load(store) for store in stores]
    if not snapshots:
        raise DataError("there is nothing to merge: give at least one dataset")
    first = snapshots[0]
    for store, snapshot in zip(stores, snapshots, strict=True):
        if snapshot.schema != first.schema:
            raise SchemaError(
                f"cannot merge {store.location} with {stores[0].location}: their columns differ; write "
                "them anew"
            )
    taken = referenced_files(target) if latest_version(target) else set[str]()
    names: list[dict[str, str]] = []
    shards: list[ShardInfo] = []
    for store, snapshot in zip(stores, snapshots, strict=True):
        renamed = {file: _free_name(file, taken) for file in snapshot.shards.files()}
        for info in snapshot.shards:
            _copy(store, f"shards/{info.file}", target, f"shards/{renamed[info.file]}")
            shards.append(replace(info, file=renamed[info.file]))
        names.append(renamed)
    dataset_id = load(target).dataset_id if mode == "append" and latest_version(target) else uuid4()
    keys = _merged_keys(stores, snapshots, names, target, encrypt)
    return publish(target, dataset_id, first.schema, shards, mode, keys=keys, encrypt=encrypt)


def _merged_keys(
    stores: Sequence[Store],
    snapshots: Sequence[Snapshot],
    names: Sequence[dict[str, str]],
    target: Store,
    encrypt: Encryption | None,
) -> KeysInfo | None:
    kinds = {snapshot.keys and (snapshot.keys.column, snapshot.keys.duplicates) for snapshot in snapshots}
    if kinds == {None}:
        return None
    if len(kinds) > 1:
        raise SchemaError("cannot merge datasets of different keys; give all the same with index_keys first")
    whole = Entries.joined(_entries(*one, encrypt) for one in zip(stores, snapshots, names, strict=True))
    keys = snapshots[0].keys
    assert keys is not None
    refuse_duplicates(keys, whole)
    return replace(keys, segments=(put_segment(target, whole, None, encrypt),))


def _entries(store: Store, snapshot: Snapshot, names: dict[str, str], encrypt: Encryption | None) -> Entries:
    assert snapshot.keys is not None
    secret = None if encrypt is None else encrypt.key
    keys = Keys(snapshot.keys, snapshot.shards, lambda file: open_file(store, f"keys/{file}", secret))
    found = keys.entries()
    found.shards = [names.get(file, "") for file in found.shards]
    return found


def _free_name(file: str, taken: set[str]) -> str:
    name = file if file not in taken else f"{uuid4().hex[:12]}-{file}"
    taken.add(name)
    return name


def _copy(source: Store, path: str, target: Store, to: str) -> None:
    if source.local is None:
        target.put(to, source.get(path))
        return
    if target.local is not None and _link(source.local / path, target.local / to):
        return
    target.put_file(to, source.local / path)


def _link(source: Path, target: Path) -> bool:
    """Make a hard link where the disk allows it; a shard never changes, so sharing it is safe."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)
    except OSError:
        return False
    return True
