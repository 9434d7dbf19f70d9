"""Bring the console up to date before it is packed into a wheel, so that its users never need Node."""

import subprocess
import sys
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ConsoleBuildHook(BuildHookInterface):
    """Runs `console/build.py`, which does nothing while its sources are unchanged."""

    def initialize(self, version: str, build_data: dict[str, object]) -> None:
        """Build the static files, except for an editable install, which `make` serves."""
        if version != "editable":
            root = Path(self.root)
            subprocess.run([sys.executable, str(root / "console" / "build.py")], cwd=root, check=True)
