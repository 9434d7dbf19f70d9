"""Files of this machine that inputs are read from."""

from collections.abc import Sequence
from pathlib import Path

from blixt.data.errors import BuildError


def local_files(files: str | Path | Sequence[str | Path], elsewhere: str) -> list[str]:
    """Return the paths of files that are here.

    Args:
        files: one path, or several.
        elsewhere: what reads a folder, a pattern or an address, such as `ParquetDataset`.

    Raises:
        BuildError: when one is not a file of this machine.
    """
    paths = [str(path) for path in ([files] if isinstance(files, (str, Path)) else files)]
    for path in paths:
        if Path(path).is_file():
            continue
        if "://" in path or "*" in path or Path(path).is_dir():
            what = "lies in a store" if "://" in path else "means several files"
            raise BuildError(
                f"{path} {what}: pass blixt.data.foreign.{elsewhere}({path!r}) as the inputs, which reads it "
                "where it is"
            )
        raise BuildError(f"there is no file {path}")
    return paths
