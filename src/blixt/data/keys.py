"""Keys: from a text, a number or bytes to the row that has it, through a sorted table of hashes.

A segment is a shard file in `keys/` with one row per key, sorted by hash: the hash, the shard (its place in
the segment's own list of shards), the row in that shard, and the key itself, by which a match is confirmed. A
version names its segments; rows of shards that the version does not have (any more) are passed over, so an
update adds a small segment and leaves the old ones alone.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import numpy as np
import numpy.typing as npt

from blixt.data.crypto import Encryption
from blixt.data.errors import DataError, KeyNotFoundError, SchemaError
from blixt.data.manifest import KeysInfo
from blixt.data.schema import Column, Schema
from blixt.data.shard.info import ShardInfo
from blixt.data.shard.layout import grain
from blixt.data.shard.read import ShardReader
from blixt.data.shard.table import ShardTable
from blixt.data.types import Text

Key = str | int | bytes
KeyOf = str | Callable[[Any], Key]
"""The path of the field that is the key, such as `"meta.id"`, or a function from a sample to its key."""
DUPLICATES = ("error", "first", "last")
_BLOCK_ROWS = grain(8) // 8
_SCHEMA = Schema(
    (
        Column("hash", "fixed", "array", "uint64"),
        Column("shard", "fixed", "array", "uint32"),
        Column("row", "fixed", "array", "uint64"),
        Column("key", "variable", "bytes"),
    ),
    {"dict": {name: {"leaf": name} for name in ("hash", "shard", "row", "key")}},
)


def key_bytes(key: Any) -> bytes:
    """Return a key as it is stored: a letter for its type, then its bytes; keys of different types differ.

    Raises:
        TypeError: when it is no text, number or bytes.

    Example:
        >>> key_bytes("a"), key_bytes(b"a"), key_bytes(7)
        (b'sa', b'ba', b'i7')
    """
    if isinstance(key, Text):
        key = key.value
    if isinstance(key, str):
        return b"s" + key.encode()
    if isinstance(key, (bytes, bytearray)):
        return b"b" + bytes(key)
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        return b"i%d" % int(cast("int", key))
    raise TypeError(f"a key must be a str, an int or bytes, got {type(key).__name__}")


def shown(stored: bytes) -> str:
    """Return a stored key as messages show it."""
    return (
        stored[1:].decode(errors="replace")
        if stored[:1] == b"i"
        else repr(stored[1:].decode(errors="replace"))
    )


def key_getter(key: KeyOf) -> Callable[[Any], bytes]:
    """Return the function from a sample to its stored key.

    Raises:
        SchemaError: when called with a sample that has no such field, or another type in it.
    """
    find = _field_getter(key) if isinstance(key, str) else key

    def get(sample: Any) -> bytes:
        try:
            return key_bytes(find(sample))
        except (KeyError, IndexError, TypeError, ValueError) as problem:
            raise SchemaError(f"it has no key {key!r} ({type(problem).__name__}: {problem})") from None

    return get


class Keys:
    """The keys of one version.

    Args:
        info: what the snapshot says of them.
        shards: the snapshot's shards.
        open_segment: opens a segment by its name in `keys/`.
    """

    def __init__(
        self, info: KeysInfo, shards: ShardTable, open_segment: Callable[[str], ShardReader]
    ) -> None:
        self.info = info
        self._open = open_segment
        self._number = {file: number for number, file in enumerate(shards.files())}
        self._first_row = shards.first_row
        self._segments: list[_Segment | None] = [None] * len(info.segments)

    def find(self, key: Key) -> int:
        """Return the row that has a key; of several, the one that the duplicates policy names.

        Raises:
            KeyNotFoundError: when there is none.
        """
        rows = self.find_all(key)
        if not rows:
            raise KeyNotFoundError(f"there is no sample with key {key!r}")
        return rows[-1] if self.info.duplicates == "last" else rows[0]

    def find_all(self, key: Key) -> list[int]:
        """Return all rows that have a key, in order."""
        return self.rows_of(key_bytes(key))

    def rows_of(self, stored: bytes) -> list[int]:
        """Return all rows that have a stored key, in order."""
        wanted = _hash(stored)
        rows: list[int] = []
        for number in range(len(self._segments)):
            rows += self._segment(number).rows(stored, wanted)
        return sorted(rows) if len(rows) > 1 else rows

    def __contains__(self, key: Key) -> bool:
        return bool(self.find_all(key))

    def entries(self) -> "Entries":
        """Return the keys of all rows of the version."""
        parts = [self._segment(number).entries() for number in range(len(self._segments))]
        return Entries.joined(parts)

    def _segment(self, number: int) -> "_Segment":
        segment = self._segments[number]
        if segment is None:
            reader = self._open(self.info.segments[number].file)
            segment = self._segments[number] = _Segment(reader, self._number, self._first_row)
        return segment


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

    hashes: Any = np.array([_hash(key) for key in entries.keys], "<u8")
    order = np.argsort(hashes, kind="stable")
    shards: Any = np.array(entries.shard, "<u4")
    rows: Any = np.array(entries.row, "<u8")
    meta = {"shards": entries.shards, "fences": hashes[order][::_BLOCK_ROWS].tolist()}
    with ShardWriter(path, schema=_SCHEMA, dataset_id=dataset_id, encrypt=encrypt, meta=meta) as writer:
        at: int
        for at in order.tolist():
            place = (hashes[at].tobytes(), shards[at].tobytes(), rows[at].tobytes())
            writer.write_values((*place, entries.keys[at]))
    return writer.close()


def read_entries(reader: ShardReader) -> Entries:
    """Return all that a segment holds.

    Raises:
        DataError: when the file is no segment.
    """
    if reader.schema != _SCHEMA or not isinstance(reader.meta.get("shards"), list):
        raise DataError("a file in keys/ is no table of keys; index the keys anew")
    rows = np.arange(reader.rows)
    return Entries(
        reader.meta["shards"],
        reader.fixed("shard").tolist(),
        reader.fixed("row").tolist(),
        [bytes(view) for view in reader.views("key", rows)],
    )


class _Segment:
    """One open segment, and where the rows of its shards are in the version."""

    def __init__(
        self, reader: ShardReader, numbers: dict[str, int], first_row: npt.NDArray[np.int64]
    ) -> None:
        self._reader = reader
        if reader.schema != _SCHEMA:
            raise DataError("a file in keys/ is no table of keys; index the keys anew")
        self._fences: list[int] = reader.meta["fences"]
        self._shards: list[str] = reader.meta["shards"]
        at = [numbers.get(file, -1) for file in self._shards]
        self._first = [int(first_row[number]) if number >= 0 else -1 for number in at]
        self._rows = [int(first_row[number + 1] - first_row[number]) if number >= 0 else 0 for number in at]

    def rows(self, stored: bytes, wanted: int) -> list[int]:
        block = max(bisect_left(self._fences, wanted) - 1, 0)
        found: list[int] = []
        while block < len(self._fences) and self._fences[block] <= wanted:
            start = block * _BLOCK_ROWS
            hashes = self._reader.fixed("hash", start, min(start + _BLOCK_ROWS, self._reader.rows))
            low = int(np.searchsorted(hashes, np.uint64(wanted), "left"))
            high = int(np.searchsorted(hashes, np.uint64(wanted), "right"))
            if high > low:
                found += self._confirmed(np.arange(start + low, start + high), stored)
            block += 1
        return found

    def _confirmed(self, at: npt.NDArray[np.int64], stored: bytes) -> list[int]:
        rows: list[int] = []
        for entry, key in zip(at.tolist(), self._reader.views("key", at), strict=True):
            if bytes(key) != stored:
                continue
            shard = int(self._reader.fixed("shard", entry, entry + 1)[0])
            row = int(self._reader.fixed("row", entry, entry + 1)[0])
            if self._first[shard] >= 0 and row < self._rows[shard]:
                rows.append(self._first[shard] + row)
        return rows

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


def _hash(stored: bytes) -> int:
    return int.from_bytes(blake2b(stored, digest_size=8).digest(), "little")


def _field_getter(path: str) -> Callable[[Any], Any]:
    def get(sample: Any) -> Any:
        node: Any = sample
        if path == "value" and type(node) not in (dict, list, tuple):
            return node
        for step in path.split("."):
            node = node[step if hasattr(node, "keys") else int(step)]
        return node

    return get
