"""Tables of keys: shard files in `keys/`, one row per key, sorted by hash."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import numpy as np
import numpy.typing as npt

from blixt.data.crypto import Encryption
from blixt.data.errors import FormatError, SchemaError
from blixt.data.key_of import KeyOf, key_getter, key_hash
from blixt.data.schema import Column, Schema
from blixt.data.shard.info import ShardInfo
from blixt.data.shard.read import ShardReader

_FENCE_ROWS = 131_072
"""One fence for so many rows; FORMAT.md fixes the number."""
_SCHEMA = Schema(
    (
        Column("hash", "fixed", "array", "uint64"),
        Column("shard", "fixed", "array", "uint32"),
        Column("row", "fixed", "array", "uint64"),
        Column("key", "variable", "bytes"),
    ),
    {"dict": {name: {"leaf": name} for name in ("hash", "shard", "row", "key")}},
)


class Entries:
    """Keys and where they are: `shards[shard[i]]`, `row[i]` has the key `keys[i]`."""

    def __init__(
        self, shards: Sequence[str], shard: Sequence[int], row: Sequence[int], keys: Sequence[bytes]
    ) -> None:
        self.shards, self.shard, self.row, self.keys = list(shards), list(shard), list(row), list(keys)

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def joined(cls, parts: Iterable["Entries"]) -> "Entries":
        """Return several as one."""
        whole = cls([], [], [], [])
        for part in parts:
            first = len(whole.shards)
            whole.shards += part.shards
            whole.shard += [first + shard for shard in part.shard]
            whole.row += part.row
            whole.keys += part.keys
        return whole

    def duplicate(self) -> bytes | None:
        """Return a key that occurs twice, None when there is none."""
        if len(set(self.keys)) == len(self.keys):
            return None
        seen: set[bytes] = set()
        return next(key for key in self.keys if key in seen or seen.add(key))


class KeyLog:
    """Notes the key of each sample while a shard is written."""

    def __init__(self, key: KeyOf) -> None:
        self._get = key_getter(key)
        self.keys: list[bytes] = []

    def note(self, sample: Any, where: object) -> None:
        """Note a sample's key.

        Raises:
            SchemaError: when it has none.
        """
        try:
            self.keys.append(self._get(sample))
        except SchemaError as problem:
            raise SchemaError(f"{where}: {problem}") from None

    def save(self, shard: Path, dataset_id: UUID, encrypt: Encryption | None) -> None:
        """Write the notes beside the shard, for `collect_keys`."""
        count = len(self.keys)
        entries = Entries([shard.name], [0] * count, range(count), self.keys)
        write_segment(note_path(shard), entries, dataset_id, encrypt)


def note_path(shard: Path) -> Path:
    """Return where the keys of a shard are noted until it is published."""
    return shard.with_suffix(".keys")


def write_segment(
    path: Path, entries: Entries, dataset_id: UUID | None, encrypt: Encryption | None
) -> ShardInfo:
    """Write a segment file."""
    from blixt.data.shard.write import ShardWriter  # which writes segments itself

    hashes: Any = np.array([key_hash(key) for key in entries.keys], "<u8")
    order = np.argsort(hashes, kind="stable")
    shards: Any = np.array(entries.shard, "<u4")
    rows: Any = np.array(entries.row, "<u8")
    meta = {"shards": entries.shards, "fences": hashes[order][::_FENCE_ROWS].tolist()}
    with ShardWriter(path, schema=_SCHEMA, dataset_id=dataset_id, encrypt=encrypt, meta=meta) as writer:
        at: int
        for at in order.tolist():
            place = (hashes[at].tobytes(), shards[at].tobytes(), rows[at].tobytes())
            writer.write_values((*place, entries.keys[at]))
    return writer.close()


def read_entries(reader: ShardReader) -> Entries:
    """Return all that a segment holds.

    Raises:
        FormatError: when the file is no segment.
    """
    _check(reader)
    rows = np.arange(reader.rows)
    entries = Entries(
        reader.meta["shards"],
        reader.fixed("shard").tolist(),
        reader.fixed("row").tolist(),
        [bytes(view) for view in reader.views("key", rows)],
    )
    reader.confirm()
    return entries


class Segment:
    """One open segment, and where the rows of its shards are in the version.

    Args:
        reader: the segment.
        numbers: the place of each shard of the version, by name.
        first_row: the first row of each shard of the version, and its number of rows.
    """

    def __init__(
        self, reader: ShardReader, numbers: dict[str, int], first_row: npt.NDArray[np.int64]
    ) -> None:
        self._reader = reader
        _check(reader)
        self._key, self._shard, self._row = map(reader.value, ("key", "shard", "row"))
        self._fences: list[int] = reader.meta["fences"]
        self._shards: list[str] = reader.meta["shards"]
        at = [numbers.get(file, -1) for file in self._shards]
        self._first = [int(first_row[number]) if number >= 0 else -1 for number in at]
        self._rows = [int(first_row[number + 1] - first_row[number]) if number >= 0 else 0 for number in at]

    def rows(self, stored: bytes, wanted: int) -> list[int]:
        """Return the rows of a stored key with this hash."""
        block = max(bisect_left(self._fences, wanted) - 1, 0)
        found: list[int] = []
        while block < len(self._fences) and self._fences[block] <= wanted:
            start = block * _FENCE_ROWS
            hashes = self._reader.fixed("hash", start, min(start + _FENCE_ROWS, self._reader.rows))
            at = int(hashes.searchsorted(np.uint64(wanted)))
            while at < len(hashes) and hashes.item(at) == wanted:
                found += self._confirmed(start + at, stored)
                at += 1
            block += 1
        self._reader.confirm()
        return found

    def _confirmed(self, entry: int, stored: bytes) -> list[int]:
        """Return the row of an entry, if it is that of the key and its shard is in the version."""
        if self._key(entry) != stored:
            return []
        shard, row = int(self._shard(entry)), int(self._row(entry))
        if shard >= len(self._first) or self._first[shard] < 0 or row >= self._rows[shard]:
            return []
        return [self._first[shard] + row]

    def entries(self) -> Entries:
        """Return those whose shard the version has."""
        whole = read_entries(self._reader)
        alive = [at for at in range(len(whole)) if self._first[whole.shard[at]] >= 0]
        return Entries(
            whole.shards,
            [whole.shard[at] for at in alive],
            [whole.row[at] for at in alive],
            [whole.keys[at] for at in alive],
        )


def _check(reader: ShardReader) -> None:
    """Refuse a shard file that is no segment.

    Raises:
        FormatError: when it is none.
    """
    shards, fences = reader.meta.get("shards"), reader.meta.get("fences")
    blocks = -(-reader.rows // _FENCE_ROWS)
    if (
        reader.schema != _SCHEMA
        or not _all_of(str, shards)
        or not _all_of(int, fences)
        or len(cast("list[int]", fences)) != blocks
    ):
        raise FormatError(
            f"{reader.name} is no table of keys; give the dataset its keys anew with index_keys"
        )


def _all_of(kind: type, values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in cast("list[Any]", values))
