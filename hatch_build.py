"""Build the console into the wheel, unless it is built already or the install is editable."""

import subprocess
import sys
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ConsoleBuildHook(BuildHookInterface):
    """Runs `console/build.py` before a wheel is packed, so that users never need Node."""

    def initialize(self, version: str, build_data: dict) -> None:
        """Build the static files when they are missing and this is not an editable install."""
        root = Path(self.root)
        built = root / "src" / "blixt" / "cloud" / "static" / "index.html"
        script = root / "console" / "build.py"
        if version == "editable" or built.exists() or not script.exists():
            return
        # Node is no build requirement, because every editable install would then fetch 60 MB for nothing.
        if subprocess.run([sys.executable, str(script)], cwd=root, check=False).returncode != 0:
            raise RuntimeError(
                "The console is not built and could not be built here. Run `make console` first, "
                "which fetches Node as a wheel, then build the wheel again."
            )
