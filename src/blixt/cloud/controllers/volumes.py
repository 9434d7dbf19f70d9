"""The persistent folders: one home per object, one shared folder per teamspace."""

import os
import shutil
from pathlib import Path

from blixt.cloud.objects import Object

SHARED = "teamspace"


class Volumes:
    """Folders below the data folder that sandboxes see as `$HOME` and `~/teamspace`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def home(self, obj: Object) -> Path:
        """The object's home, made when it is missing. Named by uid: a new object never finds an old one's."""
        return _made(self._root / obj.teamspace / f"{obj.kind}-{obj.uid}")

    def shared(self, teamspace: str) -> Path:
        """The folder that all workloads of a teamspace share."""
        return _made(self._root / teamspace / "shared")

    def remove(self, obj: Object) -> None:
        """Remove an object's home for good."""
        shutil.rmtree(self._root / obj.teamspace / f"{obj.kind}-{obj.uid}", ignore_errors=True)

    def copy(self, source: Object, target: Object) -> None:
        """Fill a new home with a copy of another's files, once; links stay links, nothing is followed.

        The owner of the files stays who owns the source: both belong to one teamspace.
        """
        marker = self.home(target) / ".blixt" / "copied"
        if marker.exists():
            return
        home = self.home(source)
        shutil.copytree(
            home,
            self.home(target),
            symlinks=True,
            dirs_exist_ok=True,
            ignore=_ignore_in(home),
            copy_function=_copy,
        )
        marker.parent.mkdir(exist_ok=True)
        marker.write_text(source.uid)
        owner = home.stat()
        for folder, folders, files in os.walk(self.home(target)):
            for name in [*folders, *files]:
                os.chown(Path(folder) / name, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _ignore_in(home: Path):
    def ignore(folder: str, names: list[str]) -> list[str]:
        special = [name for name in names if not _is_plain(Path(folder) / name)]
        return [*special, SHARED, ".blixt"] if Path(folder) == home else special

    return ignore


def _is_plain(path: Path) -> bool:
    return path.is_symlink() or path.is_dir() or path.is_file()


def _copy(source: str, target: str) -> str:
    return shutil.copy2(source, target, follow_symlinks=False)
