"""One version of a dataset as a value: its columns, its shards in order, and how it is written as JSON."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from blixt.data.errors import FormatError
from blixt.data.schema import Schema
from blixt.data.shard.info import ShardInfo
from blixt.data.shard.layout import MAJOR, MINOR
from blixt.data.shard.table import ShardTable

FORMAT = "blixt.dataset"


@dataclass(frozen=True, slots=True)
class KeysInfo:
    """How the keys of a version are found.

    Attributes:
        column: the column that holds the key, None when a function made it.
        duplicates: what a key that occurs more than once means: `"error"`, `"first"` or `"last"`.
        segments: the files in `keys/`, oldest first.
    """

    column: str | None
    duplicates: str
    segments: tuple[ShardInfo, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as the snapshot stores it."""
        segments = [segment.to_json() for segment in self.segments]
        return {"column": self.column, "duplicates": self.duplicates, "segments": segments}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "KeysInfo":
        """Read it from a snapshot."""
        segments = tuple(ShardInfo.from_json(segment) for segment in stored["segments"])
        return cls(stored["column"], stored["duplicates"], segments)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of a dataset: its columns and its shards in order.

    Attributes:
        job: the name of the build that published it, None where that had none.
        keys: how rows are found by key, None where the dataset has no keys.
    """

    dataset_id: UUID
    version: int
    schema: Schema
    shards: ShardTable
    created_at: float
    job: str | None = None
    keys: KeysInfo | None = None

    @property
    def rows(self) -> int:
        """How many samples the version holds."""
        return int(self.shards.first_row[-1])

    @property
    def first_row(self) -> npt.NDArray[np.int64]:
        """The first row of each shard, and the number of rows."""
        return self.shards.first_row

    @property
    def size_bytes(self) -> int:
        """How many bytes its shards take."""
        return int(self.shards.size_bytes.sum())

    def tokens(self, column: str) -> int:
        """How many tokens a stream column holds."""
        return self.shards.total(column)

    def summary(self) -> dict[str, Any]:
        """Return all but the shards as plain JSON values."""
        summary = {
            "format": FORMAT,
            "format_version": [MAJOR, MINOR],
            "dataset_id": str(self.dataset_id),
            "version": self.version,
            "created_at": self.created_at,
            "rows": self.rows,
            "size_bytes": self.size_bytes,
            **self.schema.to_json(),
        }
        if self.job is not None:
            summary["job"] = self.job
        if self.keys is not None:
            summary["keys"] = self.keys.to_json()
        return summary

    def to_json(self) -> dict[str, Any]:
        """Return the snapshot as it is stored, without its checksum."""
        return {**self.summary(), "shards": [shard.to_json() for shard in self.shards]}

    @classmethod
    def from_json(cls, stored: dict[str, Any], name: str, shards: ShardTable | None = None) -> "Snapshot":
        """Read a snapshot.

        Args:
            stored: what `to_json` gave, or `summary` when the shards are given.
            name: how errors name the file.
            shards: the shards, where they were stored elsewhere.

        Raises:
            FormatError: when it is none that this version can read.
        """
        try:
            if stored["format"] != FORMAT:
                raise FormatError(f"snapshot {name} is not one of a blixt dataset")
            if stored["format_version"][0] != MAJOR:
                raise FormatError(
                    f"snapshot {name} has format version {stored['format_version'][0]}, this blixt reads "
                    f"{MAJOR}; upgrade blixt"
                )
            if shards is None:
                shards = ShardTable.of(ShardInfo.from_json(shard) for shard in stored["shards"])
            _check_names(shards, name)
            keys = stored.get("keys")
            return cls(
                UUID(stored["dataset_id"]),
                int(stored["version"]),
                Schema.from_json(stored),
                shards,
                float(stored["created_at"]),
                stored.get("job"),
                None if keys is None else KeysInfo.from_json(keys),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError) as problem:
            raise FormatError(
                f"snapshot {name} makes no sense ({type(problem).__name__}: {problem})"
            ) from None


def _check_names(shards: ShardTable, name: str) -> None:
    """Refuse names that would lead out of the dataset's folder, or are no text (a ValueError)."""
    if b"/" in shards.names or b"\\" in shards.names or b"\0" in shards.names:
        raise FormatError(f"snapshot {name} names a shard outside of its folder")
    starts = np.concatenate([[0], shards.name_ends.astype(np.int64)])
    if (np.diff(starts) <= 0).any():
        raise FormatError(f"snapshot {name} names a shard by nothing")
    shards.names.decode()
    first_letters = np.frombuffer(shards.names, np.uint8)[starts[:-1]]
    inside_a_letter = first_letters & 0xC0 == 0x80
    if (first_letters == ord(".")).any() or inside_a_letter.any():
        raise FormatError(f"snapshot {name} names a shard that cannot be one")
