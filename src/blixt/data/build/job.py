"""The notebook of a build, kept in the output store: a broken build goes on, and machines can share one.

.build/lock                      held by the process that builds in a local folder; the kernel releases it
.build/KEY/job.json              what is being built and by whom; an equal call finds it by its key
.build/KEY/done/N.json           unit N is finished: its shards or files; whoever writes it first wins
.build/KEY/committed-NAME.json   several machines shared the job and one of them published it
"""

import json
import time
from dataclasses import dataclass, replace
from typing import Any, Self
from uuid import UUID, uuid4

from blixt.data.build.owner import Owner
from blixt.data.schema import Schema
from blixt.data.shard.info import ShardInfo
from blixt.data.store import NotFoundError, Store


@dataclass(frozen=True, slots=True)
class Done:
    """A finished unit: the shards that `optimize` wrote for it, or the files of `map`."""

    unit: int
    count: int
    digest: str
    schema: Schema | None
    shards: tuple[ShardInfo, ...] = ()
    files: tuple[str, ...] = ()
    finished_at: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return it as a note stores it."""
        return {
            "unit": self.unit,
            "count": self.count,
            "digest": self.digest,
            "schema": None if self.schema is None else self.schema.to_json(),
            "shards": [shard.to_json() for shard in self.shards],
            "files": list(self.files),
            "finished_at": self.finished_at,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Read a note."""
        schema = None if stored["schema"] is None else Schema.from_json(stored["schema"])
        return cls(
            stored["unit"],
            stored["count"],
            stored["digest"],
            schema,
            tuple(ShardInfo.from_json(shard) for shard in stored["shards"]),
            tuple(stored["files"]),
            stored["finished_at"],
        )


@dataclass(frozen=True, slots=True)
class Job:
    """A build in a store; it holds nothing open and travels to other processes.

    Attributes:
        store: where the output goes.
        key: the fingerprint of the call; an equal call finds the job by it.
        name: begins the name of each shard that the job writes.
        unit_size: inputs per unit, decided by whoever began the job.
        dataset_id: the id of the dataset that is written.
        since: the version that was the newest when the job began.
        shared: whether several machines work on it.
        run_id: names the run of several machines that share it.
        resumed: whether it was found rather than begun.
    """

    store: Store
    key: str
    name: str
    unit_size: int
    dataset_id: UUID
    since: int
    shared: bool
    run_id: str | None
    resumed: bool

    @property
    def folder(self) -> str:
        """Where its notes are."""
        return f".build/{self.key}"

    def finish_unit(self, done: Done) -> bool:
        """Note a finished unit; False when somebody else finished it before."""
        return self.store.put_if_absent(self.note_of(done.unit), _json(done.to_json()))

    def unit(self, number: int) -> Done | None:
        """Return the note of a finished unit, None when there is none (any more)."""
        try:
            return Done.from_json(json.loads(self.store.get(self.note_of(number))))
        except NotFoundError:
            return None

    def forget_unit(self, number: int) -> None:
        """Take back a note whose unit has to be done again."""
        self.store.delete(self.note_of(number))

    def is_finished(self, number: int) -> bool:
        """Return whether a unit is noted as done, by whomever."""
        return self.store.size(self.note_of(number)) is not None

    def exists(self) -> bool:
        """Return whether the job is still open: not committed, and not swept away as abandoned."""
        return self.store.size(f"{self.folder}/job.json") is not None

    @property
    def committed_note(self) -> str:
        """Where machines that share the job find that it was published."""
        return f"{self.folder}/committed-{self.name}.json"

    def committed(self) -> dict[str, Any] | None:
        """Return what became of the job (`version`, `files`); None while it goes on, or is not shared."""
        try:
            return json.loads(self.store.get(self.committed_note))
        except NotFoundError:
            return None

    def note_of(self, number: int) -> str:
        """Return where a unit is noted as done."""
        return f"{self.folder}/done/{number:08d}.json"


def open_job(
    store: Store,
    key: str,
    *,
    unit_size: int,
    dataset_id: UUID | None,
    since: int,
    shared: bool,
    run_id: str | None = None,
) -> Job:
    """Begin a job, or find the one that an equal call began (and broke off, or shares with this one)."""
    mine = {
        "name": uuid4().hex[:12],
        "unit_size": unit_size,
        "dataset_id": str(dataset_id or uuid4()),
        "since": since,
        "shared": shared,
        "run_id": run_id,
        "owner": Owner.current().to_json(),
        "at": time.time(),
    }
    path = f".build/{key}/job.json"
    while True:
        begun = store.put_if_absent(path, _json(mine))
        try:
            notes = mine if begun else json.loads(store.get(path))
        except NotFoundError:
            continue
        except ValueError:
            store.delete(path)
            continue
        return replace(job_from_notes(store, key, notes), run_id=run_id, resumed=not begun)


def job_from_notes(store: Store, key: str, notes: dict[str, Any]) -> Job:
    """Return the job that a `job.json` tells of."""
    dataset_id = UUID(notes["dataset_id"])
    return Job(
        store,
        key,
        notes["name"],
        notes["unit_size"],
        dataset_id,
        notes["since"],
        notes["shared"],
        notes["run_id"],
        True,
    )


def committed_by(store: Store, key: str, run_id: str | None) -> dict[str, Any] | None:
    """Return what became of the job in this very run, if it is a run that has a name and it was published."""
    if run_id is None:
        return None
    for path, _ in store.list(f".build/{key}"):
        if path.rpartition("/")[2].startswith("committed-"):
            note = json.loads(store.get(path))
            if note["run_id"] == run_id:
                return note
    return None


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
