"""A file of which only some parts are at hand, as pyarrow wants to read it."""

import io
from collections.abc import Callable, Sequence


class ByteParts(io.RawIOBase):
    """A file for reading, made of parts of its bytes; what lies in none of them is asked for.

    Args:
        size: how many bytes the file has.
        parts: where a part begins, and its bytes.
        ask: returns the bytes from the first place up to the second.
    """

    def __init__(
        self,
        size: int,
        parts: Sequence[tuple[int, memoryview]],
        ask: Callable[[int, int], memoryview],
    ) -> None:
        super().__init__()
        self._size, self._parts, self._ask = size, parts, ask
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, counted from the beginning, from here, or from the end."""
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes."""
        begin = min(self._at, self._size)
        end = self._size if size is None or size < 0 else min(self._size, begin + size)
        self._at = end
        for first, part in self._parts:
            if first <= begin and end <= first + len(part):
                return bytes(part[begin - first : end - first])
        return bytes(self._ask(begin, end))
