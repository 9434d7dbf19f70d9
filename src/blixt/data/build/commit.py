"""Publish what the units wrote as one version, exactly once, and clear the notes away."""

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from blixt.data.build.finished import Finished
from blixt.data.build.job import Done, Job
from blixt.data.build.lock import remove_folders
from blixt.data.build.output import SHARDS
from blixt.data.build.settings import Layout
from blixt.data.errors import BuildError, DataError, SchemaError
from blixt.data.key_index import collect_keys
from blixt.data.manifest import KeysInfo
from blixt.data.schema import Schema
from blixt.data.shard.info import ShardInfo
from blixt.data.snapshot import Mode, Snapshot, find_job, publish
from blixt.data.store import Store


def commit(job: Job, finished: Finished, mode: Mode, ordered: bool, layout: Layout) -> Snapshot:
    """Publish the units' shards: in the order of the units, or in the order in which they were finished.

    When several processes try, one publishes and the others get what it published.

    Raises:
        BuildError: when no input gave a sample.
        SchemaError: when units disagree on the columns.
    """
    units = [done for _, done in sorted(finished.by_unit.items()) if done.schema is not None]
    if not units or units[0].schema is None:
        raise BuildError(
            "the function yielded no sample for any input, so there is nothing to write to "
            f"{job.store.location}"
        )
    for unit in units:
        if unit.schema != units[0].schema:
            raise SchemaError(_units_differ(units[0], unit))
    if not ordered:
        units.sort(key=lambda done: done.finished_at)
    shards = [shard for unit in units for shard in unit.shards]
    origin = Origin(job.store, job.dataset_id, job.name, job.since)
    if not job.exists() and find_job(job.store, job.name, job.since) is None:
        raise BuildError(gone(job))
    snapshot = publish_shards(origin, units[0].schema, shards, mode, layout)
    close_job(job, version=snapshot.version, published=set(snapshot.shards.files()))
    return snapshot


@dataclass(frozen=True, slots=True)
class Origin:
    """Where shards come from: the store, their dataset, the build's name, and the version it began after."""

    store: Store
    dataset_id: UUID
    name: str
    since: int


def publish_shards(
    origin: Origin, schema: Schema, shards: Sequence[ShardInfo], mode: Mode, layout: Layout
) -> Snapshot:
    """Publish shards, with their keys where the layout has a key; once, whoever else tries."""
    store, key = origin.store, layout.writer.get("key")
    published = find_job(store, origin.name, origin.since)
    if published is not None:
        return published
    encrypt, keys = layout.writer.get("encrypt"), None
    if key is not None:
        keys = collect_keys(
            store,
            shards,
            key,
            origin.dataset_id,
            duplicates=layout.duplicates,
            encrypt=encrypt,
            clear=False,
            name=origin.name,
        )
    try:
        snapshot = publish(
            store,
            origin.dataset_id,
            schema,
            shards,
            mode,
            job=origin.name,
            since=origin.since,
            keys=keys,
            encrypt=encrypt,
        )
    except DataError:
        _remove_segments(store, keys, ())
        raise
    _remove_segments(store, keys, snapshot.keys.segments if snapshot.keys else ())
    return snapshot


def _remove_segments(store: Store, keys: KeysInfo | None, published: Sequence[ShardInfo]) -> None:
    """Delete gathered keys that were not published after all."""
    named = {segment.file for segment in published}
    for segment in () if keys is None else keys.segments:
        if segment.file not in named:
            store.delete(f"keys/{segment.file}")


def gone(job: Job) -> str:
    """Say that a job's notes are not there, though it was not published."""
    return (
        f"the notes of this build in {job.store.url(job.folder)} are gone: it was taken for "
        "abandoned, or the folder was emptied; run the same call again"
    )


def close_job(
    job: Job, *, version: int = 0, published: Collection[str] | None = None, files: Sequence[str] = ()
) -> None:
    """Remove the notes, and the shards of attempts that did not count.

    Machines that share the job may still look: they find under its name what became of it.
    """
    if job.shared:
        note = {"version": version, "files": list(files), "run_id": job.run_id, "at": time.time()}
        job.store.put(job.committed_note, json.dumps(note).encode())
    if published is not None:
        discard_shards(job, published)
    discard_notes(job)


def discard_shards(job: Job, keep: Collection[str]) -> None:
    """Delete the shards (also half-written ones) and keys that the job wrote and nothing names."""
    for path, _ in job.store.list(SHARDS):
        name = path.rpartition("/")[2]
        if name.lstrip(".").startswith(f"{job.name}-") and name not in keep:
            job.store.delete(path)


def discard_notes(job: Job) -> None:
    """Delete a job's notes, the one that says it exists first; what tells of its commit stays."""
    job.store.delete(f"{job.folder}/job.json")
    for path, _ in list(job.store.list(job.folder)):
        if not path.rpartition("/")[2].startswith("committed-"):
            job.store.delete(path)
    if not job.shared:  # others may be about to write there; a day later nobody is
        remove_folders(job.store, job.folder)


def _units_differ(first: Done, other: Done) -> str:
    def describe(unit: Done) -> str:
        columns = unit.schema.columns if unit.schema else ()
        listed = ", ".join(f"{column.name!r}: {column.describe()}" for column in columns)
        return f"unit {unit.unit} has {listed}"

    return (
        f"the inputs give samples of different columns: {describe(first)}; {describe(other)}; make them equal"
    )
