"""A folder for local copies, gone when it is not needed, also after a process was killed."""

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from blixt.data.build.owner import Owner

_PREFIX = "blixt-build-"


@contextmanager
def scratch_folder(base: str | None) -> Generator[Path]:
    """Make a folder that only this process uses; those of dead processes of this machine go first."""
    parent = Path(base or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(parent)
    mine = Owner.current()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{mine.name}.", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    with os.scandir(parent) as entries:
        ours = [Path(entry.path) for entry in entries if entry.name.startswith(_PREFIX)]
    for folder in ours:
        named = folder.name.removeprefix(_PREFIX).rpartition(".")[0].rsplit("-", 2)
        if len(named) == 3 and named[1].isdecimal() and Owner(named[0], int(named[1]), named[2]).is_dead():
            shutil.rmtree(folder, ignore_errors=True)
