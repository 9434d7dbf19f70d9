"""The shards of a version as arrays: a hundred thousand of them open without as many Python objects."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from blixt.data.shard.info import ShardInfo

Numbers = npt.NDArray[np.uint64]


class ShardTable(Sequence[ShardInfo]):
    """A sequence of `ShardInfo`, made when they are asked for.

    Attributes:
        rows: rows of each shard.
        size_bytes: bytes of each shard.
        crc32c: the footer's checksum of each shard.
        tokens: tokens of each shard, by stream column.
        first_row: int64 `[shards + 1]`: the first row of each shard in the dataset, and the number of rows.
    """

    def __init__(
        self,
        names: bytes,
        name_ends: Numbers,
        rows: Numbers,
        size_bytes: Numbers,
        crc32c: npt.NDArray[np.uint32],
        tokens: Mapping[str, Numbers],
    ) -> None:
        self.names, self.name_ends = names, name_ends
        self.rows, self.size_bytes, self.crc32c, self.tokens = rows, size_bytes, crc32c, dict(tokens)
        self.first_row = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(rows, out=self.first_row[1:])

    @classmethod
    def of(cls, shards: Iterable[ShardInfo]) -> "ShardTable":
        """Return the table of these shards."""
        if isinstance(shards, ShardTable):
            return shards
        infos = list(shards)
        names = [info.file.encode() for info in infos]
        streams = infos[0].tokens if infos else {}
        return cls(
            b"".join(names),
            np.array([*accumulate(map(len, names))], np.uint64),
            np.array([info.rows for info in infos], np.uint64),
            np.array([info.size_bytes for info in infos], np.uint64),
            np.array([info.crc32c for info in infos], np.uint32),
            {name: np.array([info.tokens[name] for info in infos], np.uint64) for name in streams},
        )

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> ShardInfo: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ShardInfo, ...]: ...
    def __getitem__(self, index: int | slice) -> ShardInfo | tuple[ShardInfo, ...]:
        if isinstance(index, slice):
            return tuple(self[one] for one in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no shard {index}: the dataset has {len(self)}")
        at = index % len(self)
        start = self.name_ends.item(at - 1) if at else 0
        return ShardInfo(
            self.names[start : self.name_ends.item(at)].decode(),
            self.rows.item(at),
            self.size_bytes.item(at),
            self.crc32c.item(at),
            {name: counts.item(at) for name, counts in self.tokens.items()},
        )

    def __iter__(self) -> Iterator[ShardInfo]:
        for index in range(len(self)):
            yield self[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShardTable) and len(self) == len(other) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash((self.names, len(self)))

    def __repr__(self) -> str:
        return f"ShardTable({len(self)} shards, {int(self.first_row[-1])} rows)"

    def files(self) -> list[str]:
        """Return the names of all shards."""
        text, start = self.names, 0
        files: list[str] = []
        for end in self.name_ends.tolist():
            files.append(text[start:end].decode())
            start = end
        return files

    def total(self, column: str) -> int:
        """Return the tokens of a stream column."""
        return int(self.tokens[column].sum()) if column in self.tokens else 0

    def __reduce__(self) -> Any:
        """Travel as the arrays."""
        return ShardTable, (
            self.names,
            self.name_ends,
            self.rows,
            self.size_bytes,
            self.crc32c,
            self.tokens,
        )
