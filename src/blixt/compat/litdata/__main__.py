"""Print the folder to put on PYTHONPATH, so that `import litdata` finds this package."""

import argparse
from pathlib import Path


def folder() -> Path:
    """Return the folder that holds a package named `litdata`, and nothing else."""
    return Path(__file__).parent / "path"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m blixt.compat.litdata",
        description="Run a script written for LitData on blixt: "
        "PYTHONPATH=$(python -m blixt.compat.litdata --path) python train.py",
    )
    parser.add_argument("--path", action="store_true", required=True, help="print the folder for PYTHONPATH")
    parser.parse_args()
    print(folder())


if __name__ == "__main__":
    main()
