"""The folder `<save_dir>/<name>/version_N` of a run, on a disk or behind an fsspec URL."""

import os
from pathlib import Path
from typing import IO, Any, ClassVar, cast

from blixt.fabric.errors import FabricError, MissingPackageError
from blixt.fabric.loggers.base import Logger
from blixt.fabric.loggers.params import Params, nested_params
from blixt.fabric.rank_zero import current_rank

PathLike = str | os.PathLike[str]
HPARAMS_FILE = "hparams.yaml"
CLASS_NAME = "\0"
"""Stands for a name that was not given, because None and "" mean something."""


class FolderLogger(Logger):
    """A logger that owns `<save_dir>/<name>/version_N`.

    Args:
        save_dir: The folder of all runs, or an fsspec URL.
        name: One folder below; "" or None for none. By default the class's `DEFAULT_NAME`.
        version: The run; by default the first number that is free when it is first needed.
        prefix: Put before every metric's name, with a "-".
    """

    DEFAULT_NAME: ClassVar[str] = "logs"

    def __init__(
        self,
        save_dir: PathLike,
        name: str | None = CLASS_NAME,
        version: int | str | None = None,
        prefix: str = "",
    ) -> None:
        self._save_dir = os.fspath(save_dir)
        self._name = self.DEFAULT_NAME if name == CLASS_NAME else name or ""
        self._version = version
        self._prefix = prefix
        self._hparams: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """The folder below `save_dir`."""
        return self._name

    @property
    def version(self) -> int | str:
        """The run."""
        if self._version is None:
            taken = [entry[8:] for entry in folder_names(self.root_dir) if entry.startswith("version_")]
            numbers = [int(number) for number in taken if number.isdecimal()]
            self._version = max(numbers, default=-1) + 1
        return self._version

    @property
    def save_dir(self) -> str:
        """The folder of all runs."""
        return self._save_dir

    @property
    def root_dir(self) -> str:
        """The folder of all runs of this name."""
        return os.path.join(self.save_dir, self.name) if self.name else self.save_dir

    @property
    def log_dir(self) -> str:
        """The folder of this run."""
        version = self.version
        leaf = f"version_{version}" if isinstance(version, int) else version
        return os.path.join(self.root_dir, leaf)

    @property
    def hparams(self) -> dict[str, Any]:
        """What the run was made with, as it goes into `hparams.yaml`."""
        return self._hparams

    def log_hyperparams(self, params: Params, *args: Any, **kwargs: Any) -> None:
        """Keep them for `hparams.yaml`, which `save` writes."""
        self._hparams.update(nested_params(params))

    def save(self) -> None:
        """Write `hparams.yaml`, if it is not there yet."""
        if not self._hparams or current_rank() != 0:
            return
        path = os.path.join(self.log_dir, HPARAMS_FILE)
        if not exists(path):
            make_folder(self.log_dir)
            with open_file(path, "w") as file:
                file.write(_as_yaml(self._hparams))

    def finalize(self, status: str) -> None:
        """Write what is left."""
        self.save()


def folder_names(folder: str) -> list[str]:
    """What is in `folder`; nothing when it is not there."""
    if "://" in folder:
        files, path = _fsspec(folder)
        if not files.isdir(path):
            return []
        return [os.path.basename(str(entry).rstrip("/")) for entry in files.ls(path, detail=False)]
    return os.listdir(folder) if os.path.isdir(folder) else []


def exists(path: str) -> bool:
    """Whether there is a file at `path`."""
    if "://" in path:
        files, inner = _fsspec(path)
        return bool(files.exists(inner))
    return os.path.exists(path)


def make_folder(folder: str) -> None:
    """Make `folder` and those above it."""
    try:
        if "://" in folder:
            files, path = _fsspec(folder)
            files.makedirs(path, exist_ok=True)
        else:
            Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FabricError(
            f"The logs cannot be written to {folder}: {error}. Choose another save_dir."
        ) from error


def open_file(path: str, mode: str) -> IO[Any]:
    """Open a text file, here or behind a URL; line ends are left as they are."""
    if "://" in path:
        files, inner = _fsspec(path)
        return files.open(inner, mode, newline="")
    return open(path, mode, newline="", encoding="utf-8")


def _fsspec(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
    except ImportError as error:
        raise MissingPackageError(f"save_dir={url!r}", "fsspec", error) from error
    return cast("Any", url_to_fs)(url)


def _as_yaml(params: dict[str, Any]) -> str:
    try:
        import yaml  # pyright: ignore[reportMissingModuleSource]
    except ImportError as error:
        raise MissingPackageError("hparams.yaml", "pyyaml", error) from error
    return yaml.safe_dump(params, sort_keys=False)
