"""The `litserve` command: `litserve dockerize FILE`."""

import argparse
from collections.abc import Sequence

from .docker_builder import dockerize


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        words: Its words; None: those of the process.
    """
    parser = argparse.ArgumentParser(prog="litserve", description="Serve LitAPIs with blixt.")
    commands = parser.add_subparsers(dest="command", required=True)
    wrap = commands.add_parser("dockerize", help="Write a Dockerfile for a server file.")
    wrap.add_argument("server_filename", help="The path to the server file. Example: server.py or app.py.")
    wrap.add_argument("--port", type=int, default=8000, help="Where it listens.")
    wrap.add_argument("--gpu", action="store_true", help="Build on NVIDIA's CUDA runtime image.")
    said = parser.parse_args(words)
    dockerize(said.server_filename, said.port, said.gpu)
