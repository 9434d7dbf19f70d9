"""Following logs as server-sent events, exact to the byte."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from blixt.cloud.hub.logs import LogStore

PIECE_BYTES = 64 * 1024
LONGEST_CHARACTER_BYTES = 4


def whole_characters(data: bytes) -> bytes:
    """The longest beginning that does not cut a UTF-8 character; broken text is returned as it is.

    >>> whole_characters("aé".encode()[:2])
    b'a'
    """
    for back in range(1, min(LONGEST_CHARACTER_BYTES, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return data
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data if length <= back else data[:-back]
    return data


@dataclass(frozen=True)
class Piece:
    """Some new text of one part.

    Attributes:
        offset: Where it begins.
        offsets: Where every part goes on after it.
    """

    part: str
    offset: int
    text: str
    offsets: dict[str, int]


class Tail:
    """The growing end of one or several parts' logs.

    Args:
        logs: Where they are.
        uid: The object.
        offsets: The first byte wanted of each part; afterwards what was read.
    """

    def __init__(self, logs: LogStore, uid: str, offsets: dict[str, int]) -> None:
        self._logs = logs
        self._uid = uid
        self.offsets = offsets

    def read(self, *, last: bool = False) -> list[Piece]:
        """What is new, one piece a part. With `last`, cut characters are given too."""
        pieces: list[Piece] = []
        for part, offset in self.offsets.items():
            data = self._logs.read(self._uid, part, offset, PIECE_BYTES)
            whole = whole_characters(data) or (data if last else b"")
            if whole:
                self.offsets[part] = offset + len(whole)
                pieces.append(Piece(part, offset, whole.decode(errors="replace"), dict(self.offsets)))
        return pieces

    async def follow(
        self, ended: Callable[[], Awaitable[bool]], keep_alive_s: float
    ) -> AsyncIterator[list[Piece]]:
        """Pieces as they come (none: nothing came for a while), until `ended` and all was read."""
        with self._logs.follow(self._uid) as grew:
            while True:
                grew.clear()
                over = await ended()
                while pieces := await asyncio.to_thread(self.read, last=over):
                    yield pieces
                if over:
                    return
                try:
                    async with asyncio.timeout(keep_alive_s):
                        await grew.wait()
                except TimeoutError:
                    yield []
