"""Files of text to learn from: which ones, and in which order."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from blixt.llm.errors import CorpusError

SKIPPED_FOLDERS = {"site-packages", "__pycache__", "node_modules", ".git", ".venv"}
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def find_texts(inputs: Sequence[str | Path], pattern: str, max_bytes: str | int) -> list[Path]:
    """Choose the files to learn from.

    The order is that of a hash of each file's path below its input, so it is the same on every machine and
    the first bytes are a fair sample of the whole.

    Args:
        inputs: Files, and folders that are searched for `pattern`.
        pattern: A glob such as "*.py"; folders of installed packages and caches are skipped.
        max_bytes: Stop after so many bytes, as a number or "8MB".

    Raises:
        CorpusError: An input does not exist, or there is nothing to read.
    """
    found: list[tuple[str, Path]] = []
    for item in map(Path, inputs):
        if item.is_file():
            found.append((item.name, item))
        elif item.is_dir():
            found += [(str(p.relative_to(item)), p) for p in item.rglob(pattern) if _wanted(p, item)]
        else:
            raise CorpusError(f"{item} does not exist: give a file or a folder to learn from")
    chosen: list[Path] = []
    left = _parse_size(max_bytes)
    for _, path in sorted(found, key=lambda pair: hashlib.sha256(pair[0].encode()).digest()):
        size = path.stat().st_size
        if 0 < size <= left:
            chosen.append(path)
            left -= size
    if not chosen:
        where = ", ".join(str(item) for item in inputs)
        raise CorpusError(f"no file that matches {pattern!r} and fits into {max_bytes} is in {where}")
    return chosen


def read_text(path: Path) -> str:
    """A file as text; bytes that are not UTF-8 become U+FFFD."""
    return path.read_text("utf-8", errors="replace")


def _wanted(path: Path, root: Path) -> bool:
    return path.is_file() and not SKIPPED_FOLDERS.intersection(path.relative_to(root).parts)


def _parse_size(size: str | int) -> int:
    if isinstance(size, int):
        return size
    for unit in ("GB", "MB", "KB", "B", ""):
        number = size.strip().upper().removesuffix(unit)
        if size.strip().upper().endswith(unit) and number.replace(".", "", 1).isdigit():
            return int(float(number) * UNITS.get(unit, 1))
    raise CorpusError(f"max_bytes={size!r} is not a size: write a number of bytes, or one like 8MB")
