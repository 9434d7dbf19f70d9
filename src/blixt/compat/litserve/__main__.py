"""`python -m blixt.compat.litserve script.py`: run a script of LitServe's users; `--path`: for PYTHONPATH.

And `python -m blixt.compat.litserve dockerize script.py`, as `litserve dockerize`; `... lightning deploy
script.py`, as `lightning deploy`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .docker_builder import dockerize


def main() -> None:
    """Run the command line."""
    words = sys.argv[1:]
    if words[:1] == ["dockerize"]:
        run_dockerize(words)
    elif words[:1] == ["lightning"]:
        from .cli import main as lightning

        sys.argv = words
        lightning()
    else:
        from blixt.compat.door import run_door

        run_door("blixt.compat.litserve", Path(__file__).parents[1], words)


def run_dockerize(words: Sequence[str]) -> None:
    """`litserve dockerize FILE`."""
    parser = argparse.ArgumentParser(prog="litserve", description="Serve LitAPIs with blixt.")
    commands = parser.add_subparsers(dest="command", required=True)
    wrap = commands.add_parser("dockerize", help="Write a Dockerfile for a server file.")
    wrap.add_argument("server_filename", help="The path to the server file. Example: server.py or app.py.")
    wrap.add_argument("--port", type=int, default=8000, help="Where it listens.")
    wrap.add_argument("--gpu", action="store_true", help="Build on NVIDIA's CUDA runtime image.")
    said = parser.parse_args(words)
    dockerize(said.server_filename, said.port, said.gpu)


if __name__ == "__main__":
    main()
