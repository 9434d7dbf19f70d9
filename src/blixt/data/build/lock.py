"""Who holds a local output folder, and what becomes of its folder of notes."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from blixt.data.errors import BuildError, WriteError
from blixt.data.store import Store
from blixt.data.store.local import TEMPORARY


def remove_folders(store: Store, folder: str) -> None:
    """Remove the folders of a job's notes with what killed processes were writing; buckets have none."""
    if store.local is None:
        return
    for below in ("done", "leases", "beats", "failed", "work"):
        shutil.rmtree(store.local / folder / below, ignore_errors=True)
    for temporary in (store.local / folder).glob(f"{TEMPORARY}*"):
        temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (store.local / folder).rmdir()


@contextmanager
def folder_lock(root: Path) -> Generator[None]:
    """Hold a local folder for one build; the lock ends with this process, however that ends.

    Raises:
        BuildError: when another process is building here.
    """
    lock = _lock(root, root / ".build")
    try:
        yield
    finally:
        os.close(lock)


def release_folder(root: Path) -> None:
    """Remove the folder of notes if no job and no writer has any left in it; the caller holds its lock."""
    folder = root / ".build"
    remove_if_empty(root)
    with contextlib.suppress(OSError):
        if all(path.name == "lock" for path in folder.iterdir()):
            (folder / "lock").unlink(missing_ok=True)
            folder.rmdir()


def remove_if_empty(root: Path) -> None:
    """Remove the folder of notes, and that of writers in it, if there is nothing in them."""
    for folder in (root / ".build" / "writers", root / ".build"):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _lock(root: Path, folder: Path) -> int:
    """Take the folder's lock; one that a build which just ended has deleted meanwhile is no lock any more."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            continue
        except OSError as problem:
            raise WriteError(
                f"cannot make folder {folder}: {problem.strerror}; choose another output folder"
            ) from problem
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.stat(folder / "lock"), os.fstat(lock)):
                return lock
        except BlockingIOError:
            os.close(lock)
            raise BuildError(
                f"another process is building {root}; wait for it or choose another output folder "
                "(the ranks of one build say so: executor='ranks' or executor='leases')"
            ) from None
        except FileNotFoundError:
            pass
        os.close(lock)
