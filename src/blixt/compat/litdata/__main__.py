"""`python -m blixt.compat.litdata script.py`: run a script of LitData's users; `--path`: for PYTHONPATH."""

import sys
from pathlib import Path

from blixt.compat.door import run_door


def folder() -> Path:
    """Return the folder that holds a package named `litdata`, and nothing else."""
    return Path(__file__).parent / "path"


if __name__ == "__main__":
    run_door("blixt.compat.litdata", folder(), sys.argv[1:])
