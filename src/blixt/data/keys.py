"""Keys: from a text, a number or bytes to the row that has it, through a sorted table of hashes.

A segment is a shard file in `keys/` with one row per key, sorted by hash: the hash, the shard (its place in
the segment's own list of shards), the row in that shard, and the key itself, by which a match is confirmed. A
version names its segments; rows of shards that the version does not have (any more) are passed over, so an
update adds a small segment and leaves the old ones alone.
"""

from collections.abc import Callable

from blixt.data.errors import KeyNotFoundError
from blixt.data.key_of import Key, KeyOf, key_bytes, key_hash
from blixt.data.key_segment import Entries, Segment
from blixt.data.manifest import KeysInfo
from blixt.data.shard.read import ShardReader
from blixt.data.shard.table import ShardTable

__all__ = ["DUPLICATES", "Key", "KeyOf", "Keys"]

DUPLICATES = ("error", "first", "last")


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
        self._segments: list[Segment | None] = [None] * len(info.segments)

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
        wanted = key_hash(stored)
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

    def _segment(self, number: int) -> "Segment":
        segment = self._segments[number]
        if segment is None:
            reader = self._open(self.info.segments[number].file)
            segment = self._segments[number] = Segment(reader, self._number, self._first_row)
        return segment
