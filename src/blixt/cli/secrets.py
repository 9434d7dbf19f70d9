"""blixt secret ...: values for workloads that lists never show."""

import sys
from typing import Annotated

import typer

from blixt.cli.failure import CliError
from blixt.cli.options import Json, Name, Teamspace, group
from blixt.cli.output import ago, print_json, print_table, say

app = group("Values for workloads that lists never show.")


@app.command("set")
def set_(
    name: Name,
    value: Annotated[str | None, typer.Argument(help="The value; asked for, or read from a pipe.")] = None,
    teamspace: Teamspace = None,
) -> None:
    """Store a secret, replacing the value before."""
    from blixt.client import Client, Secret

    if value is None:
        asked = typer.prompt("Value", hide_input=True) if sys.stdin.isatty() else sys.stdin.read()
        value = str(asked).rstrip("\n")
    if not value:
        raise CliError("The value is empty.", "Give it as an argument, or pipe it in.", 2)
    with Client(teamspace=teamspace) as client:
        Secret.set(name, value, client=client)
    say(f"Secret {name} is set.")


@app.command("list")
def list_(teamspace: Teamspace = None, json: Json = False) -> None:
    """List the names of the secrets."""
    from blixt.client import Client, Secret

    with Client(teamspace=teamspace) as client:
        found = Secret.list(client=client)
    if json:
        print_json([secret.data.to_json() for secret in found])
        return
    rows = [(item.name, item.data.owner, ago(item.data.updated_at)) for item in found]
    print_table(("name", "owner", "changed"), rows, empty="There are no secrets.")


@app.command()
def delete(name: Name, teamspace: Teamspace = None) -> None:
    """Delete a secret; workloads that run keep what they were given."""
    from blixt.client import Client, Secret

    with Client(teamspace=teamspace) as client:
        Secret.get(name, client=client).delete()
    say(f"Secret {name} is gone.")
