"""`python -m blixt.compat.litserve script.py`: run a script of LitServe's users; `--path`: for PYTHONPATH.

And `python -m blixt.compat.litserve dockerize script.py`, as `litserve dockerize`.
"""

import sys
from pathlib import Path


def main() -> None:
    """Run the command line."""
    words = sys.argv[1:]
    if words[:1] == ["dockerize"]:
        from .cli import main as run

        run(words)
        return
    from blixt.compat.door import run_door

    run_door("blixt.compat.litserve", Path(__file__).parents[1], words)


if __name__ == "__main__":
    main()
