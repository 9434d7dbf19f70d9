"""Stored bytes of many batches looked up together: where each value lies, and what to check before that.

Nothing here runs once per value but what is written in C: the places of a run of batches are a few arrays.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import getitem
from typing import Any, NamedTuple, Protocol

import numpy as np

from blixt.data.fetch import Job
from blixt.data.filemap import FileMap
from blixt.data.order import Int
from blixt.data.shard.file import Range


class InPlace(Protocol):
    """What is asked of a shard that is mapped, and whose variable values lie as they are stored."""

    @property
    def source(self) -> FileMap | None:
        """The map of the whole file."""
        ...

    def blocks(self, rows: Int) -> Int:
        """Return the block in which each row's variable values lie."""
        ...

    def lacking(self, blocks: Int) -> Int:
        """Return which places of an array of blocks name one that was not checked yet."""
        ...

    def block_ranges(self, blocks: Sequence[int]) -> list[Range]:
        """Return where those of the blocks lie that were not read yet."""
        ...

    def check(self, blocks: Sequence[int]) -> None:
        """See that these blocks, which are here, are whole."""
        ...

    def spans(self, name: str, rows: Int, blocks: Int) -> tuple[Int, Int]:
        """Return where in the file the values of a variable column begin and end."""
        ...


class Cached(Protocol):
    """What is asked of the cached file of a remote shard."""

    @property
    def is_local(self) -> bool:
        """Whether all bytes are here."""
        ...

    @property
    def retired(self) -> bool:
        """Whether the cache took the file back."""
        ...

    def begin(self, ranges: Sequence[Range]) -> list[Job]:
        """Begin to fetch what lacks of these bytes."""
        ...

    def finish(self, jobs: Sequence[Job]) -> None:
        """Wait for what `begin` returned."""
        ...


class Mapped:
    """The mapped shards of a run of batches, whose values may be on their way still.

    Args:
        shards: each shard's reader, and its cached file where it is remote.
    """

    def __init__(self, shards: Sequence[tuple[InPlace, Cached | None]]) -> None:
        self.readers = [reader for reader, _ in shards]
        self._files = [file for _, file in shards]

    @property
    def is_current(self) -> bool:
        """Whether the cache took none of the files back; of one that it took, no more is to be fetched."""
        return not any(file is not None and file.retired for file in self._files)

    def bring(self, due: Mapping[int, list[int]]) -> None:
        """See that blocks, named by the shard's place, are here, fetching all that lack at once.

        Raises:
            DataError: when some cannot be had.
        """
        begun: list[tuple[Cached, list[Job]]] = []
        for number, blocks in due.items():
            file = self._files[number]
            if file is not None and not file.is_local:
                begun.append((file, file.begin(self.readers[number].block_ranges(blocks))))
        for file, jobs in begun:
            file.finish(jobs)

    def check(self, due: Mapping[int, list[int]]) -> None:
        """See that blocks, which are here, are whole.

        Raises:
            DataError: when some do not match their checksum.
        """
        for number, blocks in due.items():
            self.readers[number].check(blocks)


class Due:
    """The blocks that batches are the first to need: brought by who reads ahead, checked by who has the time.

    Whoever checks a block has it in its processor's cache, so it is best checked by who copies it next.

    Args:
        mapped: the shards.
        blocks: what `unchecked` says of the batches.
    """

    def __init__(self, mapped: Mapped, blocks: Sequence[Mapping[int, list[int]]]) -> None:
        self._mapped, self._blocks = mapped, blocks
        self._checked = 0

    def bring(self, batch: int) -> None:
        """See that what a batch is the first to need is here.

        Raises:
            DataError: when some of it cannot be had.
        """
        self._mapped.bring(self._blocks[batch])

    def check(self, batch: int) -> None:
        """See that all is whole that a batch needs, which the batches before it may have needed, too.

        Raises:
            DataError: when some does not match its checksum.
        """
        for number in range(self._checked, batch + 1):
            self._mapped.check(self._blocks[number])
            self._checked = number + 1  # two threads may check one batch: it is done twice then, never not


class Part(NamedTuple):
    """Rows of one shard among the rows of several batches.

    Attributes:
        reader: the shard.
        rows: row numbers in the shard.
        at: their places among all rows, ascending.
        blocks: the block in which each row's variable values lie.
    """

    reader: InPlace
    rows: Int
    at: Int
    blocks: Int


class Stored:
    """The stored bytes of a column's values, which are here, neither checked nor copied yet.

    Args:
        files: the mapped files.
        numbers: which of them each value lies in.
        lows: where each value begins in its file.
        highs: where it ends.
        check: sees that the values' blocks are whole.
    """

    def __init__(
        self,
        files: Sequence[FileMap],
        numbers: list[int],
        lows: list[int],
        highs: list[int],
        check: Callable[[], None],
    ) -> None:
        self._files, self._numbers, self._lows, self._highs = files, numbers, lows, highs
        self.check = check

    def copies(self) -> list[bytes]:
        """Return the values as bytes of their own.

        Raises:
            CorruptionError: when a block of theirs does not match its checksum.
            FormatError: when a file was cut short.
        """
        self.check()
        copies = self._slices(self._files)
        for number in set(self._numbers):
            self._files[number].confirm()
        return copies

    def views(self) -> list[memoryview]:
        """Return the values in place; each keeps its file mapped.

        Raises:
            CorruptionError: when a block of theirs does not match its checksum.
        """
        self.check()
        return self._slices(list(map(memoryview, self._files)))

    def _slices(self, sources: Sequence[Any]) -> list[Any]:
        values = map(sources.__getitem__, self._numbers)
        return list(map(getitem, values, map(slice, self._lows, self._highs)))


class Places:
    """Where a variable column's values lie.

    Args:
        files: the mapped files.
        numbers: which of them each value lies in.
        lows: where each value begins in its file.
        highs: where it ends.
    """

    def __init__(
        self, files: Sequence[FileMap], numbers: list[int], lows: list[int], highs: list[int]
    ) -> None:
        self._files, self._numbers, self._lows, self._highs = files, numbers, lows, highs

    def part(self, low: int, high: int, check: Callable[[], None]) -> Stored:
        """Return some of the values, which `check` is to see before they are given to anybody."""
        return Stored(
            self._files, self._numbers[low:high], self._lows[low:high], self._highs[low:high], check
        )


def places(name: str, parts: Sequence[Part], count: int) -> Places:
    """Return where a variable column's values at all rows of the parts lie.

    Raises:
        CorruptionError: when an offset leads out of its block.
    """
    files: list[FileMap] = []
    numbers, lows, highs = (np.empty(count, np.int64) for _ in range(3))
    for number, (reader, rows, at, blocks) in enumerate(parts):
        assert reader.source is not None
        files.append(reader.source)
        numbers[at] = number
        lows[at], highs[at] = reader.spans(name, rows, blocks)
    return Places(files, numbers.tolist(), lows.tolist(), highs.tolist())


def unchecked(parts: Sequence[Part], starts: range) -> list[dict[int, list[int]]]:
    """Return for each batch which blocks of which part are first needed by it, not having been checked yet.

    Args:
        parts: the rows of all batches.
        starts: the first place of each batch.
    """
    found: list[dict[int, list[int]]] = [{} for _ in starts]
    for number, (reader, _, at, blocks) in enumerate(parts):
        lacking = reader.lacking(blocks)
        batches: list[int] = (at[lacking] // starts.step).tolist()
        needed: list[int] = blocks[lacking].tolist()
        first = dict(zip(reversed(needed), reversed(batches), strict=True))
        for block, batch in sorted(first.items()):
            found[batch].setdefault(number, []).append(block)
    return found
