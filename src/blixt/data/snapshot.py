"""Versions of a dataset: immutable shards, and one file per version whose exclusive creation is the commit.

DIR/shards/*.shard       never changed once they have their name
DIR/versions/1.json ...  one snapshot each; the highest number is the current version
DIR/index.json           a copy of the newest snapshot, for people and for tools; readers do not need it
"""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid4

from blixt.data.errors import (
    CorruptionError,
    DatasetExistsError,
    DatasetNotFoundError,
    FormatError,
    SchemaError,
    WriteError,
)
from blixt.data.schema import Schema
from blixt.data.shard.layout import MAJOR, MINOR, crc32c
from blixt.data.shard.write import ShardInfo

Mode = Literal["error", "append", "overwrite"]
MODES: tuple[Mode, ...] = ("error", "append", "overwrite")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of a dataset: its columns and its shards in order."""

    dataset_id: UUID
    version: int
    schema: Schema
    shards: tuple[ShardInfo, ...]
    created_at: float

    @property
    def rows(self) -> int:
        """How many samples the version holds."""
        return sum(shard.rows for shard in self.shards)

    @property
    def size_bytes(self) -> int:
        """How many bytes its shards take."""
        return sum(shard.size_bytes for shard in self.shards)

    def tokens(self, column: str) -> int:
        """How many tokens a stream column holds."""
        return sum(shard.tokens[column] for shard in self.shards)

    def to_json(self) -> dict[str, Any]:
        """Return the snapshot as it is stored, without its checksum."""
        return {
            "format": "blixt.dataset",
            "format_version": [MAJOR, MINOR],
            "dataset_id": str(self.dataset_id),
            "version": self.version,
            "created_at": self.created_at,
            "rows": self.rows,
            "size_bytes": self.size_bytes,
            **self.schema.to_json(),
            "shards": [shard.to_json() for shard in self.shards],
        }


def check_mode(root: Path, mode: str) -> None:
    """Refuse a mode that does not exist, or a second dataset where mode "error" allows only a first.

    Raises:
        ValueError: for an unknown mode.
        DatasetExistsError: when the mode is "error" and the directory holds a dataset.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if mode == "error" and _versions(root):
        raise DatasetExistsError(
            f"{root} already holds a dataset; choose mode='append' or mode='overwrite', or another folder"
        )


def latest_version(root: Path) -> int:
    """Return the newest version's number, 0 when there is none."""
    return max(_versions(root), default=0)


def load(root: Path, version: int | None = None) -> Snapshot:
    """Read a version of the dataset, the newest when None.

    Raises:
        DatasetNotFoundError: when the folder or the version is not there.
        FormatError, CorruptionError: when the snapshot cannot be read.
    """
    known = _versions(root)
    if not known:
        raise DatasetNotFoundError(
            f"{root} holds no blixt dataset (no versions/*.json); write one with optimize()"
        )
    if version is not None and version not in known:
        raise DatasetNotFoundError(
            f"{root} has no version {version}; it has {', '.join(map(str, sorted(known)))}"
        )
    path = root / "versions" / f"{version or max(known)}.json"
    try:
        stored = json.loads(path.read_bytes())
        expected = stored.pop("crc32c")
    except (ValueError, KeyError, AttributeError):
        raise CorruptionError(
            f"snapshot {path} is damaged: it is not complete JSON; restore it from a copy"
        ) from None
    if crc32c(_canonical(stored)) != expected:
        raise CorruptionError(
            f"snapshot {path} is damaged: its checksum does not match; restore it from a copy"
        )
    if stored["format_version"][0] != MAJOR:
        raise FormatError(
            f"snapshot {path} has format version {stored['format_version'][0]}, this blixt reads {MAJOR}"
        )
    shards = tuple(ShardInfo.from_json(shard) for shard in stored["shards"])
    return Snapshot(
        UUID(stored["dataset_id"]), stored["version"], Schema.from_json(stored), shards, stored["created_at"]
    )


def publish(
    root: Path, dataset_id: UUID, schema: Schema, shards: Iterable[ShardInfo], mode: Mode
) -> Snapshot:
    """Make the shards the next version of the dataset, all at once.

    Two publishers may race: each version number is won by one of them, and an append that loses tries the
    next.

    Raises:
        DatasetExistsError: in mode "error" when a dataset is there.
        SchemaError: in mode "append" when the columns differ.
        WriteError: when the disk refuses.
    """
    new = tuple(shards)
    while True:
        check_mode(root, mode)
        latest = latest_version(root)
        old = load(root) if mode == "append" and latest else None
        if old is not None and old.schema != schema:
            raise SchemaError(_difference(root, old.schema, schema))
        snapshot = Snapshot(dataset_id, latest + 1, schema, new, time.time())
        if old is not None:
            snapshot = replace(snapshot, dataset_id=old.dataset_id, shards=old.shards + new)
        if _create(root, snapshot):
            return snapshot


def referenced_files(root: Path) -> set[str]:
    """Return the names of all shards that some version names."""
    return {shard.file for version in _versions(root) for shard in load(root, version).shards}


def prune(path: str | Path, keep: int = 1) -> list[str]:
    """Forget all but the newest versions, and delete the shards that only the forgotten ones name.

    A reader that still has an old version open keeps what it has mapped, but cannot open more of it.

    Args:
        path: the dataset's folder.
        keep: how many versions stay.

    Returns:
        The names of the deleted shards.

    Raises:
        ValueError: when no version would be left.
        DatasetNotFoundError: when there is no dataset.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}; delete the folder {path} to remove all of it")
    root = Path(path)
    load(root)
    forgotten: set[str] = set()
    for version in sorted(_versions(root))[:-keep]:
        forgotten |= {shard.file for shard in load(root, version).shards}
        (root / "versions" / f"{version}.json").unlink()
    unnamed = sorted(forgotten - referenced_files(root))
    for file in unnamed:
        (root / "shards" / file).unlink(missing_ok=True)
    return unnamed


def _create(root: Path, snapshot: Snapshot) -> bool:
    """Create the version's file with its whole content, or return False because someone else did."""
    stored = snapshot.to_json()
    text = json.dumps({**stored, "crc32c": crc32c(_canonical(stored))}, indent=1).encode()
    folder = root / "versions"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sync_folder(root / "shards")
        temporary = _write_temporary(folder, text)
        try:
            os.link(temporary, folder / f"{snapshot.version}.json")
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        _sync_folder(folder)
        newest = (folder / f"{latest_version(root)}.json").read_bytes()
        os.rename(_write_temporary(root, newest), root / "index.json")
    except OSError as problem:
        raise WriteError(
            f"cannot publish version {snapshot.version} of {root}: {problem.strerror or problem}; "
            "make room or choose another folder, then run again"
        ) from problem
    return True


def _write_temporary(folder: Path, content: bytes) -> Path:
    path = folder / f".{uuid4().hex}.tmp"
    try:
        with open(path, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return path


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _versions(root: Path) -> set[int]:
    return {int(path.stem) for path in (root / "versions").glob("*.json") if path.stem.isdecimal()}


def _canonical(stored: dict[str, Any]) -> bytes:
    return json.dumps(stored, sort_keys=True, separators=(",", ":")).encode()


def _difference(root: Path, old: Schema, new: Schema) -> str:
    before = {column.name: column.describe() for column in old.columns}
    after = {column.name: column.describe() for column in new.columns}
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    changes = ", ".join(
        f"{name!r} is {before.get(name, 'absent')} and not {after.get(name, 'absent')}" for name in names
    )
    return (
        f"cannot append to {root}: its columns differ ({changes or 'their nesting differs'}); write a new "
        "dataset"
    )
