"""Files on this side: what a folder holds, and how a file is read for sending."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from blixt.client.errors import SourceError

CHUNK_BYTES = 256 * 1024


def local_files(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file below a folder with its relative path; a single file has the relative path `""`.

    Raises:
        SourceError: When there is no such file or folder.
    """
    if root.is_file():
        yield root, ""
        return
    if not root.is_dir():
        raise SourceError(f"There is no file or folder {str(root)!r}.", "Check the path.")
    for file in sorted(root.rglob("*")):
        if file.is_file():
            yield file, file.relative_to(root).as_posix()


def upload_chunks(file: Path, on_bytes: Callable[[int], None] | None = None) -> Iterator[bytes]:
    """Read a file piece by piece, telling `on_bytes` the size of each."""
    with file.open("rb") as content:
        while chunk := content.read(CHUNK_BYTES):
            yield chunk
            if on_bytes:
                on_bytes(len(chunk))


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
