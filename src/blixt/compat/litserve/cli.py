"""The `litserve` command: `litserve dockerize FILE`."""

import argparse

from .docker_builder import dockerize


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="litserve", description="Serve LitAPIs with blixt.")
    commands = parser.add_subparsers(dest="command", required=True)
    wrap = commands.add_parser("dockerize", help="Write a Dockerfile for a server file.")
    wrap.add_argument("server_filename", help="The path to the server file.")
    wrap.add_argument("--port", type=int, default=8000, help="Where it listens.")
    wrap.add_argument("--gpu", action="store_true", help="Build on NVIDIA's CUDA runtime image.")
    words = parser.parse_args()
    dockerize(words.server_filename, words.port, words.gpu)
