"""Files kept by the hash of their content: an upload is there completely, or not at all."""

import errno
import hashlib
import os
import uuid
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path

from blixt.cloud.errors import StorageFull

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Upload:
    """A file on its way in. Call `write` until done, then hand it to `ContentStore.keep`, or `abort` it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hash = hashlib.sha256()
        self.size_bytes = 0
        with _full_disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("xb")

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            StorageFull: When the disk is full; nothing is left behind.
        """
        try:
            with _full_disk():
                self._file.write(data)
        except BaseException:
            self.abort()
            raise
        self._hash.update(data)
        self.size_bytes += len(data)

    @property
    def sha256(self) -> str:
        """The hash of what was written so far."""
        return self._hash.hexdigest()

    def finish(self) -> Path:
        """Put the last bytes on the disk and return the unfinished file's place.

        Raises:
            StorageFull: When the disk is full; nothing is left behind.
        """
        try:
            with _full_disk():
                self._file.flush()
                os.fsync(self._file.fileno())
        except BaseException:
            self.abort()
            raise
        self._file.close()
        return self._path

    def abort(self) -> None:
        """Drop the upload."""
        try:
            self._file.close()
        except OSError:
            # The last buffered bytes did not fit; the file goes anyway.
            pass
        self._path.unlink(missing_ok=True)


class ContentStore:
    """A folder of files named by their sha256.

    Args:
        folder: Where they are kept; unfinished uploads of a killed server are removed from it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        if self._incoming.is_dir():
            for left in self._incoming.iterdir():
                left.unlink(missing_ok=True)

    def begin(self) -> Upload:
        """Begin an upload.

        Raises:
            StorageFull: When the disk is full.
        """
        return Upload(self._incoming / uuid.uuid4().hex)

    def keep(self, upload: Upload) -> tuple[str, int]:
        """Make a finished upload part of the store; return its sha256 and size in bytes."""
        half = upload.finish()
        final = self.path(upload.sha256)
        try:
            with _full_disk():
                final.parent.mkdir(parents=True, exist_ok=True)
                half.replace(final)
        except BaseException:
            half.unlink(missing_ok=True)
            raise
        return upload.sha256, upload.size_bytes

    def path(self, sha256: str) -> Path:
        """Return where the file with this hash is kept."""
        return self._folder / sha256[:2] / sha256

    def remove(self, hashes: Collection[str]) -> None:
        """Remove files that nothing refers to any more."""
        for sha256 in hashes:
            self.path(sha256).unlink(missing_ok=True)


@contextmanager
def _full_disk() -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(
                "The disk under the data folder is full; nothing of this upload was kept.",
                "Free some space, then send it again.",
            ) from error
        raise
