"""`python -m blixt.compat.litserve script.py`: run a script of LitServe's users; `--path`: for PYTHONPATH."""

import sys
from pathlib import Path

from blixt.compat.door import run_door

if __name__ == "__main__":
    run_door("blixt.compat.litserve", Path(__file__).parents[1], sys.argv[1:])
