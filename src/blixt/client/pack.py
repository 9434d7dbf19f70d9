"""A source folder as one tar.gz: what a job finds in its working directory."""

import gzip
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from blixt.client.errors import SourceError
from blixt.client.ignore import IGNORE_FILES, Rule, default_rules, ignored, read_rules

MAX_SOURCE_BYTES = 200 * 1024 * 1024


def pack(source: str | os.PathLike[str], *, max_bytes: int = MAX_SOURCE_BYTES) -> bytes:
    """Pack a folder (or one file) into a tar.gz, leaving out what its ignore files name.

    The bytes depend only on the files, so that the server stores an unchanged folder once.

    Args:
        source: The folder. `.gitignore` and `.blixtignore` are honoured in every folder below it;
            `.git`, `.venv`, `__pycache__`, `node_modules` and other caches never travel.
        max_bytes: The largest sum of file sizes, before compression.

    Raises:
        SourceError: When it does not exist, is too large, is your home folder, or links out of itself.
    """
    root = Path(source).expanduser().resolve()
    _check_root(root, source)
    files = [root] if root.is_file() else list(_walk(root, root, default_rules()))
    base = root.parent if root.is_file() else root
    _check_size(files, base, max_bytes)
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=6) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for file in files:
            _add(archive, file, base)
    return packed.getvalue()


def _check_root(root: Path, source: str | os.PathLike[str]) -> None:
    if not root.exists():
        raise SourceError(f"There is no folder {os.fspath(source)!r} to pack.", "Name a folder that exists.")
    if root in (Path.home(), Path(root.anchor)):
        raise SourceError(
            f"{root} is not a project folder: packing all of it is not what you want.",
            "Run from your project's folder, name one with --source DIR, or send no files with --no-source.",
        )


def _walk(folder: Path, root: Path, rules: list[Rule]) -> Iterator[Path]:
    """Files and links below a folder in a fixed order; ignored folders are not even entered."""
    base = "" if folder == root else folder.relative_to(root).as_posix() + "/"
    rules = [*rules, *read_rules(folder, base)]
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        is_folder = entry.is_dir(follow_symlinks=False)
        if ignored(base + entry.name, is_folder, rules):
            continue
        if is_folder:
            yield from _walk(path, root, rules)
        elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
            yield path


def _check_size(files: list[Path], base: Path, max_bytes: int) -> None:
    sizes = {file: file.lstat().st_size for file in files}
    total = sum(sizes.values())
    if total <= max_bytes:
        return
    largest = sorted(files, key=lambda file: -sizes[file])[:3]
    names = ", ".join(f"{file.relative_to(base)} ({sizes[file] / 2**20:.0f} MB)" for file in largest)
    raise SourceError(
        f"The source folder {base} holds {total / 2**20:.0f} MB, more than the {max_bytes / 2**20:.0f} MB "
        f"that may travel with a job; the largest: {names}.",
        f"List them in {IGNORE_FILES[1]}, or put data into ~/teamspace, which every workload sees.",
    )


def _add(archive: tarfile.TarFile, file: Path, base: Path) -> None:
    name = file.relative_to(base).as_posix()
    if file.is_symlink() and not file.resolve().is_relative_to(base):
        raise SourceError(
            f"{name} is a link to {file.resolve()}, outside the source folder.",
            f"Copy the file in, or list the link in {IGNORE_FILES[1]}.",
        )
    info = archive.gettarinfo(file, arcname=name)
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = int(info.mtime)
    if info.isreg():
        with file.open("rb") as content:
            archive.addfile(info, content)
    else:
        archive.addfile(info)
