"""Rewrite old checkpoint files in today's layout: `python -m blixt.trainer.checkpoint.upgrade PATH`."""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from blixt.fabric import CheckpointError
from blixt.fabric.checkpoint import save_file
from blixt.trainer.checkpoint.migrate import LAYOUT, VERSION_KEY
from blixt.trainer.checkpoint.read import peek, read


def upgrade_files(
    path: str | os.PathLike[str], extension: str = ".ckpt", *, weights_only: bool = True
) -> list[str]:
    """Bring a checkpoint, or all below a folder, up to today's layout; the old file stays as `.bak`.

    Args:
        path: A file or a folder.
        extension: What checkpoints in a folder end with.
        weights_only: False for files of people you trust that hold objects: they may run code.

    Returns:
        The files that were rewritten. Those that are up to date are left alone.

    Raises:
        CheckpointError: When there is nothing to upgrade, or a file cannot be read.
    """
    target = Path(path)
    ending = extension if extension.startswith(".") else f".{extension}"
    files = [target] if target.is_file() else sorted(target.rglob(f"*{ending}"))
    if not files:
        raise CheckpointError(f"There is no checkpoint at {target.absolute()} that ends in {ending}.")
    return [str(file) for file in files if _upgrade(file, weights_only)]


def _upgrade(file: Path, weights_only: bool) -> bool:
    if peek(file).get(VERSION_KEY) == LAYOUT:
        return False
    content = read(file, weights_only=weights_only)
    if content.get(VERSION_KEY) != LAYOUT:
        return False  # newer than this, or of another tool
    backup = file.with_suffix(".bak")
    if not backup.exists():
        shutil.copyfile(file, backup)
    save_file(file, content)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m blixt.trainer.checkpoint.upgrade",
        description="Rewrite checkpoints of older releases in today's layout; the old files stay as .bak.",
    )
    parser.add_argument("path", help="a checkpoint, or a folder of them")
    parser.add_argument("--extension", "-e", default=".ckpt", help="of the files in a folder (default .ckpt)")
    parser.add_argument("--map-to-cpu", action="store_true", help="tensors are read to the CPU anyway")
    parser.add_argument(
        "--trust", action="store_true", help="let the files make objects, which can run code of theirs"
    )
    given = parser.parse_args(arguments)
    try:
        done = upgrade_files(given.path, given.extension, weights_only=not given.trust)
    except CheckpointError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(f"upgraded {path}" for path in done) or "everything is up to date")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
