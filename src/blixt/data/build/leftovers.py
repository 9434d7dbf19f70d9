"""What builds and writers leave when they are killed, found and removed by the next one that starts."""

import json
import time
from collections import defaultdict
from typing import Any

from blixt.data.build.commit import discard_notes, discard_shards
from blixt.data.build.job import Job, job_from_notes
from blixt.data.build.lock import remove_folders
from blixt.data.build.output import SHARDS
from blixt.data.build.owner import is_stale
from blixt.data.snapshot import Place, Snapshot, as_store, load, referenced_files, versions
from blixt.data.snapshot import prune as prune_versions
from blixt.data.store import NotFoundError, Store
from blixt.data.store.local import TEMPORARY

ABANDONED_AFTER_S = 24 * 3600.0
"""A build or writer of another machine that noted nothing for so long is taken for abandoned."""
WRITERS = ".build/writers"


def sweep(
    store: Store, *, keep: str | None = None, alone: bool = False, after_s: float = ABANDONED_AFTER_S
) -> list[str]:
    """Delete what dead builds and writers left in a store; what a version names always stays.

    Args:
        store: the dataset's.
        keep: the key of a job that is not to be touched.
        alone: the caller holds the folder, so no other local build lives.
        after_s: the silence after which something on another machine counts as dead.

    Returns:
        The paths of deleted shards.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for path, _ in store.list(".build"):
        groups[path.split("/")[1]].append(path)
    dead: list[str] = []
    for key, paths in groups.items():
        if key == "writers":
            dead += _dead_writers(store, paths, after_s)
        elif key not in (keep, "lock"):
            dead += _dead_job(store, key, paths, alone, after_s)
    _remove_temporaries(store, after_s)
    if not dead:
        return []
    named = referenced_files(store)
    kept = {key for version in versions(store) for key in _keys_of(load(store, version))}
    for name in dead:
        if f"{name}.keys" not in kept:
            store.delete(f"keys/{name}.keys")
    unnamed = [
        path
        for path, _ in store.list(SHARDS)
        if path.rpartition("/")[2].lstrip(".").startswith(tuple(f"{name}-" for name in dead))
        and path.rpartition("/")[2] not in named
    ]
    for path in unnamed:
        store.delete(path)
    return unnamed


def discard_job(job: Job) -> None:
    """Forget a job that is not to be resumed: its notes and all its shards that no version names."""
    discard_notes(job)
    discard_shards(job, referenced_files(job.store))


def _dead_job(store: Store, key: str, paths: list[str], alone: bool, after_s: float) -> list[str]:
    """Remove a dead job's notes; return its name, for its shards."""
    notes = _read(store, f".build/{key}/job.json")
    if notes is None:
        return _remove_tombstones(store, paths, after_s)
    if not (alone and not notes["shared"]):
        newest = max((_age_mark(store, path) for path in paths if "/done/" in path), default=notes["at"])
        if not is_stale({**notes, "at": newest}, after_s) or (
            notes["shared"] and _is_recent(newest, after_s)
        ):
            return []
    discard_notes(job_from_notes(store, key, notes))
    return [notes["name"]]


def _dead_writers(store: Store, paths: list[str], after_s: float) -> list[str]:
    names: list[str] = []
    for path in paths:
        note = _read(store, path)
        if note is not None and is_stale(note, after_s):
            store.delete(path)
            names.append(note["name"])
    return names


def _remove_tombstones(store: Store, paths: list[str], after_s: float) -> list[str]:
    """Of a job that is over only the note of its commit stays, for a day; return the jobs' names.

    A machine that was given up may have written more after the end.
    """
    names: list[str] = []
    for path in paths:
        note = _read(store, path) if "/committed-" in path else None
        if note is None or not _is_recent(note["at"], after_s):
            store.delete(path)
            remove_folders(store, path.rpartition("/")[0])
        if note is not None:
            names.append(path.rpartition("/committed-")[2].removesuffix(".json"))
    return names


def _remove_temporaries(store: Store, after_s: float) -> None:
    """Delete files that a killed process was writing into a local store; the store never lists them."""
    if store.local is None:
        return
    for folder in (store.local, store.local / SHARDS, store.local / "versions"):
        for path in folder.glob(f"{TEMPORARY}*"):
            try:
                if not _is_recent(path.stat().st_mtime, after_s):
                    path.unlink()
            except FileNotFoundError:
                continue


def _keys_of(snapshot: Snapshot) -> list[str]:
    return [] if snapshot.keys is None else [segment.file for segment in snapshot.keys.segments]


def _is_recent(at: float, after_s: float) -> bool:
    return time.time() - at <= after_s


def _age_mark(store: Store, path: str) -> float:
    note = _read(store, path)
    return 0.0 if note is None else float(note["finished_at"])


def _read(store: Store, path: str) -> dict[str, Any] | None:
    try:
        return json.loads(store.get(path))
    except (NotFoundError, ValueError):
        return None


def prune(place: Place, keep: int = 1) -> list[str]:
    """Forget all but the newest versions, and delete what nothing needs any more.

    That is: shards that only the forgotten versions name, and what killed builds and writers left. A reader
    that still has an old version open keeps what it has mapped, but cannot open more of it.

    Args:
        place: the dataset: a folder, an address or a `Store`.
        keep: how many versions stay.

    Returns:
        The names of the deleted shards.

    Raises:
        ValueError: when no version would be left.
        DatasetNotFoundError: when there is no dataset.
    """
    store = as_store(place)
    forgotten = prune_versions(store, keep)
    return sorted({*forgotten, *(path.removeprefix(f"{SHARDS}/") for path in sweep(store))})
