"""Which file `ckpt_path` means."""

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from blixt.fabric import CheckpointError, ConfigError, Fabric, nearest
from blixt.fabric.checkpoint.io import is_url, local
from blixt.fabric.errors import CheckpointNotFoundError
from blixt.trainer.callback import Callback
from blixt.trainer.checkpoint.read import peek

PathLike = str | os.PathLike[str]
_HPC = re.compile(r"hpc_ckpt_(\d+)\.ckpt$")
_WORDS = ("best", "last", "hpc", "auto")


def find_checkpoint(
    wanted: PathLike | None,
    stage: str,
    callbacks: Callback | Sequence[Callback] | None,
    root: PathLike,
    fabric: Fabric,
    *,
    model_given: bool = True,
) -> str | None:
    """The file or URL that `ckpt_path` means, the same on all ranks.

    Args:
        wanted: A path or URL; "best" or "last" of the trainer's checkpoint callbacks; "hpc", what a Slurm
            job saved before it was requeued; "auto", the newest that training can go on from; None for none,
            except in a requeued Slurm job, and in an evaluation of the module that was just trained, which
            takes the best.
        stage: fit, validate, test or predict.
        callbacks: The trainer's.
        root: The trainer's `default_root_dir`.
        fabric: The processes.
        model_given: Whether a module was given to the stage, and not the last one used again.

    Returns:
        None to begin anew, or to evaluate the module as it is.

    Raises:
        CheckpointError: When there is no such file; says what there is.
        ConfigError: When this trainer cannot know what is meant.
    """
    found: str | CheckpointError | ConfigError | None = None
    if fabric.is_global_zero:
        try:
            found = _find(wanted, stage, _keepers(callbacks), root, model_given)
        except (CheckpointError, ConfigError) as error:
            found = error  # told to the others first: they wait for it
    found = fabric.broadcast(found)
    if isinstance(found, Exception):
        raise found
    return found


def newest_checkpoint(folder: PathLike, *, resumable: bool = False) -> Path | None:
    """The checkpoint below `folder` that was written last; torn and foreign files are passed over.

    Args:
        folder: Where to look, with all folders below it.
        resumable: Pass over files that hold only weights.
    """
    found = _newest([os.fspath(folder)], resumable)
    return None if found is None else Path(found)


def hpc_path(root: PathLike) -> str:
    """Where a job that is about to be requeued saves: the next of `hpc_ckpt_1.ckpt`, `hpc_ckpt_2.ckpt` ..."""
    number = max((number for number, _ in _hpc_files(root)), default=0) + 1
    return _join(root, f"hpc_ckpt_{number}.ckpt")


def _keepers(callbacks: Callback | Sequence[Callback] | None) -> list[Any]:
    """Those of the callbacks that keep checkpoints."""
    if callbacks is None:
        return []
    given = list(callbacks) if isinstance(callbacks, Sequence) else [callbacks]
    return [each for each in given if hasattr(each, "best_model_path") or hasattr(each, "ckpt_path")]


def _find(
    wanted: PathLike | None, stage: str, keepers: list[Any], root: PathLike, model_given: bool
) -> str | None:
    if wanted is None and _in_slurm_job() and _hpc_files(root):
        wanted = "hpc"
    if wanted is None:
        return _after_failure(keepers) if stage == "fit" else _default(stage, keepers, model_given)
    if wanted == "best":
        return _best(stage, keepers)
    if wanted == "last":
        return _last(stage, keepers)
    if wanted == "hpc":
        return _hpc(stage, root)
    if wanted == "auto":
        dirpaths: list[PathLike | None] = [getattr(each, "dirpath", None) for each in keepers]
        folders = [os.fspath(each) for each in dirpaths if each is not None]
        return _newest([*folders, os.fspath(root)], resumable=stage == "fit")
    return _given(stage, wanted)


def _in_slurm_job() -> bool:
    """Whether this is a job that Slurm may requeue, and no shell in one."""
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return "SLURM_JOB_ID" in os.environ and not interactive


def _after_failure(keepers: list[Any]) -> str | None:
    """What a callback saved when the fit before this one failed."""
    for each in keepers:
        path = os.fspath(getattr(each, "ckpt_path", None) or "")
        if path and _exists(path):
            warnings.warn(
                f"fit() goes on from {path}, which {type(each).__name__} saved when training failed. Delete "
                "it, or give ckpt_path, to do otherwise.",
                stacklevel=4,
            )
            return path
    return None


def _default(stage: str, keepers: list[Any], model_given: bool) -> str | None:
    if model_given or not any(getattr(each, "best_model_path", "") for each in keepers):
        return None
    warnings.warn(
        f"{stage}() without a model evaluates the best checkpoint of the last fit. Say "
        f"{stage}(ckpt_path='best') for that, or {stage}(model) for the module as it is now.",
        stacklevel=4,
    )
    return _best(stage, keepers)


def _best(stage: str, keepers: list[Any]) -> str:
    paths = [path for each in keepers if (path := getattr(each, "best_model_path", ""))]
    if not paths:
        keeps = any(hasattr(each, "best_model_path") for each in keepers)
        lacks = "saved no checkpoint yet" if keeps else "no ModelCheckpoint callback"
        reason = f"this trainer has {lacks}"
        raise ConfigError(
            f"{stage}(ckpt_path)", "best", reason, "Fit first (a fast_dev_run saves none), or give a path"
        )
    if len(paths) > 1:
        warnings.warn(
            f"{stage}(ckpt_path='best'): {len(paths)} callbacks have a best checkpoint; the first one's is "
            f"taken: {os.fspath(paths[0])}. Give a path to take another.",
            stacklevel=5,
        )
    return os.fspath(paths[0])


def _last(stage: str, keepers: list[Any]) -> str | None:
    """The newest of the callbacks' last checkpoints; to begin without one is fine."""
    files: list[str] = []
    for each in keepers:
        files += [path for name in ("last_model_path", "ckpt_path") if (path := getattr(each, name, ""))]
        folder = getattr(each, "dirpath", None)
        name = getattr(each, "CHECKPOINT_NAME_LAST", "last")
        if folder is not None:
            stem = re.compile(re.escape(name.partition("{")[0]) + r".*\.ckpt$")
            files += [path for path in _listed(folder) if stem.match(os.path.basename(path))]
    ordered = sorted({path for path in map(os.fspath, files) if _exists(path)}, key=_modified)
    if ordered:
        return ordered[-1]
    warnings.warn(
        f"{stage}(ckpt_path='last'): there is no last checkpoint available. No checkpoint will be loaded; "
        "ModelCheckpoint(save_last=True) makes one.",
        stacklevel=4,
    )
    return None


def _hpc(stage: str, root: PathLike) -> str:
    files = _hpc_files(root)
    if not files:
        reason = f"there is no hpc_ckpt_<n>.ckpt in {os.fspath(root)}"
        raise ConfigError(f"{stage}(ckpt_path)", "hpc", reason, "Give a path, or 'auto'")
    return max(files)[1]


def _given(stage: str, wanted: PathLike) -> str:
    path = os.fspath(wanted)
    if path.startswith("registry"):
        reason = "there is no registry of models here"
        raise ConfigError(f"{stage}(ckpt_path)", path, reason, "Give a path or a URL")
    if _exists(path):
        return path
    if not is_url(path) and Path(path).name == path and "." not in path:
        hint = nearest(path, _WORDS).rstrip("?")
        raise CheckpointNotFoundError(
            f"{stage}(ckpt_path={path!r}): there is no checkpoint at {path}. {hint}."
        )
    near = [os.path.basename(other) for other in _listed(os.path.dirname(path) or ".")]
    there = f"That folder has {', '.join(sorted(near)[:5])}." if near else "That folder has none."
    raise CheckpointNotFoundError(f"{stage}(ckpt_path): there is no checkpoint at {path}. {there}")


def _newest(folders: list[str], resumable: bool) -> str | None:
    """The newest file that is whole and a Trainer's; says which newer ones are not."""
    files = {path for folder in folders for path in _listed(folder, deep=True)}
    for path in sorted(files, key=lambda each: (_modified(each), each), reverse=True):
        trouble = _trouble(path, resumable)
        if trouble is None:
            return path
        if trouble:
            warnings.warn(f"Passed over {path}: {trouble}.", stacklevel=5)
    return None


def _trouble(path: str, resumable: bool) -> str | None:
    """Why a file will not do; None if it does, "" for one that nobody expects to do."""
    if is_url(path) or Path(path).is_dir():
        return None  # an object store shows whole objects only, and a folder counts when its marker is there
    try:
        content = peek(path)
    except CheckpointError:
        return "it is torn, or no checkpoint"
    if "state_dict" not in content or "global_step" not in content:
        return "it is not a Trainer's checkpoint"
    return "" if resumable and "optimizer_states" not in content else None


def _hpc_files(root: PathLike) -> list[tuple[int, str]]:
    return [(int(match.group(1)), path) for path in _listed(root) if (match := _HPC.search(path))]


# --- folders here and at URLs ---------------------------------------------------------------------


def _listed(folder: PathLike, deep: bool = False) -> list[str]:
    """The checkpoints in a folder: files named *.ckpt, and whole directories of sharded ones."""
    if is_url(folder):
        files, inner = _filesystem(os.fspath(folder))
        if not files.exists(inner):
            return []
        names: list[str] = files.find(inner) if deep else files.ls(inner, detail=False)
        base = os.fspath(folder).rstrip("/")
        return [base + name[len(inner.rstrip("/")) :] for name in names if name.endswith(".ckpt")]
    base = local(folder)
    if not base.is_dir():
        return []
    found = base.rglob("*.ckpt") if deep else base.glob("*.ckpt")
    return [str(path) for path in found if _is_whole(path)]


def _is_whole(path: Path) -> bool:
    if path.is_file():
        return True
    from blixt.fabric.checkpoint import is_complete

    return is_complete(path)


def _exists(path: str) -> bool:
    if is_url(path):
        files, inner = _filesystem(path)
        return bool(files.exists(inner))
    return local(path).exists()


def _modified(path: str) -> float:
    if is_url(path):
        files, inner = _filesystem(path)
        try:
            return files.modified(inner).timestamp()
        except NotImplementedError:
            return 0.0
    try:
        return local(path).stat().st_mtime_ns / 1e9
    except FileNotFoundError:
        return 0.0  # another run that keeps its best files has just removed it


def _join(root: PathLike, name: str) -> str:
    return f"{os.fspath(root).rstrip('/')}/{name}" if is_url(root) else str(local(root) / name)


def _filesystem(url: str) -> tuple[Any, str]:
    import fsspec  # pyright: ignore[reportMissingTypeStubs] - only URLs pay for it

    return cast("Any", fsspec).core.url_to_fs(url)
