"""What a snapshot records of one shard."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """One shard of a dataset; `tokens` counts each stream column, `crc32c` is that of the footer."""

    file: str
    rows: int
    size_bytes: int
    crc32c: int
    tokens: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the entry as the snapshot stores it."""
        return {
            "file": self.file,
            "rows": self.rows,
            "size_bytes": self.size_bytes,
            "crc32c": self.crc32c,
            "tokens": self.tokens,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "ShardInfo":
        """Read an entry from the snapshot."""
        return cls(stored["file"], stored["rows"], stored["size_bytes"], stored["crc32c"], stored["tokens"])
