"""blixt serve app.py: serve the API object in a Python file."""

from pathlib import Path
from typing import Annotated

import typer

from blixt.cli.failure import CliError, room


def serve(
    file: Annotated[Path, typer.Argument(help="A Python file with a blixt.serve.Server or API.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 picks a free one.")] = 8000,
) -> None:
    """Serve the Server (or the API) that a Python file defines."""
    if not file.is_file():
        raise CliError(f"There is no file {str(file)!r}.", "Name a Python file that defines a Server.")
    with room("serve", "ServeError"):
        from blixt.serve import run_file

        run_file(str(file), host=host, port=port)
