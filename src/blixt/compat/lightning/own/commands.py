"""What `python -m lightning...` runs: the few of Lightning's modules that are commands."""

import argparse
import sys

from blixt.fabric import FabricError, consolidate
from blixt.trainer.checkpoint.upgrade import main as upgrade


def consolidate_checkpoint() -> None:
    """Put a sharded checkpoint together in one file."""
    parser = argparse.ArgumentParser(description="Put a sharded checkpoint together in one file.")
    parser.add_argument("checkpoint_folder", help="what a sharding strategy saved")
    parser.add_argument("--output_file", help="the new file (default the folder's name and .consolidated)")
    given = parser.parse_args()
    try:
        print(consolidate(given.checkpoint_folder, given.output_file))
    except FabricError as error:
        sys.exit(f"error: {error}")


def upgrade_checkpoint() -> None:
    """Rewrite checkpoints of older releases in today's layout."""
    sys.exit(upgrade())
