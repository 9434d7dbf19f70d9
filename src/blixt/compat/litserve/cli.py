"""The `lightning` command that LitServe brings, for `lightning deploy`: all it does is lightning-sdk's."""

import importlib.util
import shutil
import subprocess
import sys

from .utils import is_package_installed

PACKAGE = "lightning-sdk"


def main() -> None:
    """Run lightning-sdk's command line on this process's words; it is installed if it is not there."""
    _ensure_lightning_installed()
    try:
        from lightning_sdk.cli.entrypoint import main_cli  # pyright: ignore
    except ImportError as error:
        print(f"Error importing lightning_sdk CLI: {error}. Install it anew: pip install -U {PACKAGE}")
        sys.exit(1)
    sys.argv[0] = "lightning"
    main_cli()


def _ensure_lightning_installed() -> None:
    """Install lightning-sdk, with pip or else with uv.

    Raises:
        SystemExit: Neither could.
    """
    if is_package_installed("lightning_sdk"):
        return
    installers: list[list[str]] = []
    if importlib.util.find_spec("pip"):
        installers.append([sys.executable, "-m", "pip"])
    if shutil.which("uv"):
        installers.append(["uv", "pip"])
    for installer in installers:
        try:
            subprocess.run([*installer, "install", "-U", PACKAGE], check=True)
        except (subprocess.CalledProcessError, FileNotFoundError):
            continue
        return
    sys.exit(f"Failed to install {PACKAGE}. Run: pip install {PACKAGE}")
