"""`python -m blixt.compat.lightning script.py`: run a script of Lightning's users; `--path`."""

import sys

from blixt.compat.door import run_door
from blixt.compat.lightning import folder

if __name__ == "__main__":
    run_door("blixt.compat.lightning", folder(), sys.argv[1:])
