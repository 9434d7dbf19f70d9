"""Options that many commands share, so that they are spelled and explained in one way."""

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to stdout.")]
Teamspace = Annotated[
    str | None, typer.Option("--teamspace", "-t", help="The teamspace; BLIXT_TEAMSPACE or your first one.")
]
Name = Annotated[str, typer.Argument(help="Its name.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
MachineName = Annotated[str, typer.Option("--machine", "-m", help="See `blixt machines`.")]
Env = Annotated[list[str] | None, typer.Option("--env", "-e", metavar="KEY=VALUE", help="May be repeated.")]
SecretNames = Annotated[
    list[str] | None,
    typer.Option("--secret", metavar="NAME", help="A secret for its environment; repeat it."),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends.")]


def group(help_line: str) -> typer.Typer:
    """A typer app for a group of commands, such as `blixt job ...`."""
    return typer.Typer(help=help_line, no_args_is_help=True, add_completion=False)


def parse_env(pairs: list[str] | None) -> dict[str, str]:
    """`["A=1", "B=2"]` as a dict.

    Raises:
        typer.BadParameter: For an entry without `=`.
    """
    found: dict[str, str] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"--env {pair!r} is not KEY=VALUE.")
        found[key] = value
    return found
