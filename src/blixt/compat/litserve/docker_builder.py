"""`litserve dockerize`: a Dockerfile that runs a script of LitServe's users on blixt."""

import os
import warnings
from pathlib import Path

from blixt.serve.docker import Image, write

RESET = "\u001b[0m"
RED = "\u001b[31m"
GREEN = "\u001b[32m"
BLUE = "\u001b[34m"
MAGENTA = "\u001b[35m"
BG_MAGENTA = "\u001b[45m"
BOLD = "\u001b[1m"
UNDERLINE = "\u001b[4m"
INFO = f"{BOLD}{BLUE}[INFO]"
WARNING = f"{BOLD}{RED}[WARNING]"
REQUIREMENTS_FILE = "requirements.txt"


def color(text: str, color_code: str, action_code: str | None = None) -> str:
    """A text in a terminal's colour, perhaps behind a mark such as `INFO`."""
    colored = f"{color_code}{text}{RESET}"
    return f"{action_code} {colored}" if action_code else colored


def dockerize(server_filename: str, port: int = 8000, gpu: bool = False) -> None:
    """Write a Dockerfile that runs a script, unchanged.

    Args:
        server_filename: The script that runs the server, in the current folder.
        port: Where it listens.
        gpu: Build on NVIDIA's CUDA runtime image.

    Raises:
        FileNotFoundError: The current folder has no such file.
    """
    if not Path(REQUIREMENTS_FILE).is_file():
        warnings.warn(
            f"{REQUIREMENTS_FILE} not found at {os.getcwd()}. "
            "Make sure to install the required packages in the Dockerfile.",
            stacklevel=2,
        )
    script = Path(server_filename)
    if not script.is_file():
        raise FileNotFoundError(
            f"Server file `{server_filename}` must be in the current directory: {os.getcwd()}"
        )
    command = ("python", "-m", "blixt.compat.litserve", script.name)
    for path in write(Image(script, port, gpu, command=command), force=True):
        print(f"Dockerfile created successfully: {path}" if path.name == "Dockerfile" else f"wrote {path}")
