"""What the doors share: put a folder first on the path of a script and of every process that it starts."""

import os
import runpy
import sys
from pathlib import Path


def open_door(folder: Path) -> None:
    """Make the packages in `folder` importable here and, through PYTHONPATH, in processes started from here.

    Args:
        folder: Holds packages that carry other libraries' names, and nothing else that matters.
    """
    place = str(folder)
    earlier = [item for item in os.environ.get("PYTHONPATH", "").split(os.pathsep) if item and item != place]
    os.environ["PYTHONPATH"] = os.pathsep.join([place, *earlier])
    sys.path[:] = [place, *(item for item in sys.path if item != place)]


def run_door(name: str, folder: Path, words: list[str]) -> None:
    """The command line of a door: `SCRIPT [ARGUMENTS ...]`, `-m MODULE [ARGUMENTS ...]` or `--path`.

    Args:
        name: The door's module, for the usage line.
        folder: What `--path` prints and the script finds first.
        words: The command line without the program.

    Raises:
        SystemExit: With a sentence, when there is no such script.
    """
    if words == ["--path"]:
        print(folder)
        return
    as_module = words[:1] == ["-m"] and len(words) > 1
    if not as_module and (not words or words[0].startswith("-")):
        sys.exit(f"usage: python -m {name} SCRIPT [ARGUMENTS ...] | -m MODULE [ARGUMENTS ...] | --path")
    if as_module:
        open_door(folder)
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return
    if not Path(words[0]).is_file():
        sys.exit(f"error: there is no file {words[0]!r}.")
    open_door(folder)
    sys.path.insert(0, str(Path(words[0]).resolve().parent))
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
