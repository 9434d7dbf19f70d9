"""`python -m blixt.compat.litserve script.py`: run a script of LitServe's users; `--path`: for PYTHONPATH."""

import os
import runpy
import sys
from pathlib import Path

DOOR = str(Path(__file__).parents[1])


def main(words: list[str]) -> None:
    """Run a script with `litserve` importable, here and in the processes it starts."""
    if words == ["--path"]:
        print(DOOR)
        return
    if not words or words[0].startswith("-"):
        sys.exit("usage: python -m blixt.compat.litserve SCRIPT [ARGUMENTS ...] | --path")
    if not Path(words[0]).is_file():
        sys.exit(f"error: there is no file {words[0]!r}.")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [DOOR, os.environ.get("PYTHONPATH")]))
    sys.path[:0] = [str(Path(words[0]).resolve().parent), DOOR]
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
