"""`litserve dockerize`."""

import warnings
from pathlib import Path

from blixt.serve.docker import Image, write


def dockerize(server_filename: str, port: int = 8000, gpu: bool = False) -> None:
    """Write a Dockerfile that serves a file.

    Args:
        server_filename: The file that runs the server.
        port: Where it listens.
        gpu: Build on NVIDIA's CUDA runtime image.
    """
    if not Path("requirements.txt").is_file():
        warnings.warn(
            "There is no requirements.txt. Make sure to install the required packages in the Dockerfile.",
            stacklevel=2,
        )
    for path in write(Image(Path(server_filename), port, gpu), force=True):
        print(f"Dockerfile created successfully: {path}" if path.name == "Dockerfile" else f"wrote {path}")
