"""Logs on the server: one file per process and attempt, whose length says what the agent must send next.

A log's bytes are numbered over all attempts of one part (a job's rank, a deployment's replica): attempt 2
begins where attempt 1 ended. Finished attempts never grow, so an offset stays valid for ever.
"""

import asyncio
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


class LogStore:
    """Reads, appends and follows logs below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._followers: dict[str, set[asyncio.Event]] = {}

    def file(self, uid: str, part: str, attempt: int) -> Path:
        """The file of one process in one attempt; its folder exists afterwards."""
        folder = self._root / uid / part
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{attempt:06d}.log"

    def size(self, uid: str, part: str, attempt: int) -> int:
        """How many bytes of this attempt are here."""
        file = self.file(uid, part, attempt)
        return file.stat().st_size if file.exists() else 0

    def parts(self, uid: str) -> list[str]:
        """The parts that ever wrote anything."""
        folder = self._root / uid
        return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []

    def read(self, uid: str, part: str, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes from `offset` on, across attempts; empty when there is nothing more yet."""
        folder = self._root / uid / part
        if not folder.is_dir():
            return b""
        for file in sorted(folder.iterdir()):
            size = file.stat().st_size
            if offset < size:
                with open(file, "rb") as log:
                    log.seek(offset)
                    return log.read(limit)
            offset -= size
        return b""

    def total(self, uid: str, part: str) -> int:
        """How many bytes the part has over all attempts."""
        folder = self._root / uid / part
        return sum(file.stat().st_size for file in folder.iterdir()) if folder.is_dir() else 0

    def tail(self, uid: str, part: str, lines: int = 3, limit: int = 600) -> str:
        """The last lines, for a reason that a person reads."""
        text = self.read(uid, part, max(0, self.total(uid, part) - limit), limit).decode(errors="replace")
        return " | ".join(line.strip() for line in text.strip().splitlines()[-lines:])

    def grew(self, uid: str) -> None:
        """Wake everybody who follows this object's logs."""
        for event in self._followers.get(uid, ()):
            event.set()

    @contextmanager
    def follow(self, uid: str) -> Generator[asyncio.Event]:
        """An event that is set whenever a log of this object grew."""
        event = asyncio.Event()
        self._followers.setdefault(uid, set()).add(event)
        try:
            yield event
        finally:
            followers = self._followers[uid]
            followers.discard(event)
            if not followers:
                del self._followers[uid]

    def remove(self, uid: str) -> None:
        """Forget every log of an object that was deleted."""
        shutil.rmtree(self._root / uid, ignore_errors=True)
