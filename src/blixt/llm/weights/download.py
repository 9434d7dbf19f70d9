"""Fetch a model from the Hugging Face hub: only the files it needs, each gone on with where it broke off.

The hub's own client starts a file again after its process ended; here the bytes that came stay in a hidden
file beside the target, named after the content, and the next run asks for the rest.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from blixt.llm.errors import DownloadError
from blixt.llm.weights.hub import (
    RemoteFile,
    Repository,
    explained,
    hub_package,
    needed_files,
    open_repository,
)
from blixt.llm.weights.safetensors_write import write_atomically

Progress = Callable[[int, int], None]
RECORD = ".blixt-download.json"
_PIECE_BYTES = 8 << 20


def download(
    name: str,
    directory: str | Path | None = None,
    *,
    revision: str | None = None,
    file: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetch a model; run it again after an interruption and it goes on.

    Args:
        name: `organisation/model` on the hub.
        directory: Where to; None means a folder of the model's name here.
        revision: A branch, tag or commit; None means the main branch.
        file: The one weights file to take (a GGUF among several); None decides.
        token: For private and gated repositories; None means HF_TOKEN or what `hf auth login` kept.
        endpoint: Another hub; None means HF_ENDPOINT or huggingface.co.
        progress: Called with the bytes that are there and the bytes of all files.

    Returns:
        The directory, or the file itself for GGUF.

    Raises:
        DownloadError: The repository cannot be read, a file came damaged, or the disk has no room.
    """
    repository = open_repository(name, revision=revision, token=token, endpoint=endpoint)
    target = Path(directory) if directory is not None else Path(name.split("/")[1])
    target.mkdir(parents=True, exist_ok=True)
    fetch = _Fetch(repository, target, progress)
    files = needed_files(repository, fetch.read_small, file=file)
    fetch.all(files)
    last = files[-1].name
    return target / last if last.endswith(".gguf") else target


class _Fetch:
    """One download: which files are there, and how far it is."""

    def __init__(self, repository: Repository, target: Path, progress: Progress | None) -> None:
        self.repository = repository
        self.target = target
        self.progress = progress
        self.done_bytes = 0
        self.total_bytes = 0
        self.record = _read_record(target / RECORD)

    def all(self, files: list[RemoteFile]) -> None:
        """Fetch what is missing of these."""
        self.total_bytes = sum(file.size_bytes for file in files)
        missing = [file for file in files if not self._is_there(file)]
        self._check_disk(missing)
        self.done_bytes = self.total_bytes - sum(file.size_bytes for file in missing)
        for file in missing:
            self._one(file)
        self.advance(0)

    def read_small(self, name: str) -> str:
        """A small file's text, fetched at once."""
        file = self.repository.files[name]
        if not self._is_there(file):
            self._one(file)
        return (self.target / name).read_text("utf-8")

    def advance(self, count: int) -> None:
        """So many more bytes are there."""
        self.done_bytes += count
        if self.progress is not None and self.total_bytes:
            self.progress(min(self.done_bytes, self.total_bytes), self.total_bytes)

    def _one(self, file: RemoteFile) -> None:
        partial = self._partial(file)
        for stale in self.target.glob(f".{file.name}.*.partial"):
            if stale != partial:
                stale.unlink()
        have = partial.stat().st_size if partial.exists() else 0
        if have > file.size_bytes:
            partial.unlink()
            have = 0
        self.advance(have)
        if have < file.size_bytes or not file.size_bytes:
            self._transfer(file, partial, have)
        self._check(file, partial)
        partial.replace(self.target / file.name)
        self.record[file.name] = self._mark(file)
        write_atomically(self.target / RECORD, json.dumps(self.record, indent=2) + "\n")

    def _transfer(self, file: RemoteFile, partial: Path, have: int) -> None:
        http_get = hub_package().file_download.http_get  # it asks again and goes on when a line breaks
        with explained(self.repository.name), partial.open("ab") as opened:
            counted: Any = _Counted(opened, self.advance)
            http_get(
                self.repository.url(file.name),
                counted,
                resume_size=have,
                headers=self.repository.headers(),
                expected_size=file.size_bytes,
                tqdm_class=_Silent,
            )

    def _check(self, file: RemoteFile, partial: Path) -> None:
        size = partial.stat().st_size
        if size != file.size_bytes:
            raise DownloadError(
                f"{file.name} broke off after {size} of {file.size_bytes} bytes: "
                "run the same command again, it goes on"
            )
        if file.sha256 and _sha256(partial) != file.sha256:
            partial.unlink()
            raise DownloadError(
                f"{file.name} came damaged (its SHA-256 is another): run the same command again"
            )

    def _is_there(self, file: RemoteFile) -> bool:
        path = self.target / file.name
        if not path.exists() or path.stat().st_size != file.size_bytes:
            return False
        if self.record.get(file.name) == self._mark(file):
            return True
        return bool(file.sha256) and _sha256(path) == file.sha256

    def _mark(self, file: RemoteFile) -> str:
        """What the file's content is known by: its hash, or for small files the commit."""
        return file.sha256 or self.repository.commit

    def _partial(self, file: RemoteFile) -> Path:
        return self.target / f".{file.name}.{self._mark(file)[:16]}.partial"

    def _check_disk(self, missing: list[RemoteFile]) -> None:
        here = sum(p.stat().st_size for file in missing if (p := self._partial(file)).exists())
        needed = sum(file.size_bytes for file in missing) - here
        free = shutil.disk_usage(self.target).free
        if needed > free:
            raise DownloadError(
                f"{self.repository.name} needs {needed / 1e9:.1f} GB more, the disk of {self.target} "
                f"has {free / 1e9:.1f} GB free"
            )


class _Counted:
    """A file that says how many bytes it got, and takes back what is cut off again."""

    def __init__(self, file: BinaryIO, count: Callable[[int], None]) -> None:
        self._file = file
        self._count = count

    def write(self, piece: bytes) -> int:
        self._count(len(piece))
        return self._file.write(piece)

    def seek(self, place: int) -> int:
        return self._file.seek(place)

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self) -> int:
        self._file.flush()
        self._count(self._file.tell() - self._file.seek(0, 2))
        self._file.seek(0)
        return self._file.truncate(0)


class _Silent:
    """A progress bar that shows nothing: ours does."""

    def __init__(self, *args: object, **options: object) -> None:
        pass

    def __enter__(self) -> "_Silent":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, count: int) -> None:
        """Nothing."""


def _read_record(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
