"""blixt model ...: models and their versions."""

from pathlib import Path
from typing import Annotated

import typer

from blixt.cli.failure import CliError
from blixt.cli.options import Json, Name, Teamspace, group
from blixt.cli.output import ago, byte_progress, number, print_fields, print_json, print_table, say, size

app = group("Models and their versions.")
Version = Annotated[str, typer.Option("--version", help="A number, or latest.")]


@app.command("list")
def list_(teamspace: Teamspace = None, json: Json = False) -> None:
    """List the models."""
    from blixt.client import Client, Model

    with Client(teamspace=teamspace) as client:
        found = Model.list(client=client)
    if json:
        print_json([model.data.to_json() for model in found])
        return
    rows = [
        (
            model.name,
            str(model.data.status.get("latest_version") or "none"),
            model.data.owner,
            ago(model.data.updated_at),
        )
        for model in found
    ]
    print_table(("name", ">version", "owner", "changed"), rows, empty="There are no models.")


@app.command()
def show(name: Name, teamspace: Teamspace = None, json: Json = False) -> None:
    """Show a model and its versions."""
    from blixt.client import Client, Model

    with Client(teamspace=teamspace) as client:
        model = Model.get(name, client=client)
        versions = model.versions()
    if json:
        print_json(model.data.to_json() | {"versions": versions})
        return
    print_fields({"name": name, "description": str(model.spec.get("description") or "")})
    rows = [
        (
            str(version.version),
            version.state,
            size(version.size_bytes) if version.files else "",
            version.job or "",
            ago(version.created_at),
            ", ".join(
                f"{key}={number(value)}" for key, value in version.metrics.items() if isinstance(value, float)
            ),
        )
        for version in versions
    ]
    print_table(
        (">version", "state", ">size", "job", "created", "metrics"), rows, empty="It has no versions."
    )


@app.command()
def download(
    name: Name,
    dest: Annotated[Path | None, typer.Argument(help="The folder; NAME-vN when not given.")] = None,
    version: Version = "latest",
    teamspace: Teamspace = None,
    json: Json = False,
) -> None:
    """Fetch a version of a model."""
    from blixt.client import Client, Model

    _check_version(version)
    with Client(teamspace=teamspace) as client:
        model = Model.get(name, client=client)
        found = model.version(version)
        with byte_progress(f"Downloading {name} v{found.version}", found.size_bytes) as bar:
            folder = model.download(
                found.version, dest, on_bytes=lambda received: bar.advance(bar.task_ids[0], received)
            )
    if json:
        print_json({"path": str(folder), "version": found})
    else:
        say(f"Model {name} version {found.version} is in {folder} ({size(found.size_bytes)}).")


@app.command()
def upload(
    name: Name,
    source: Annotated[Path, typer.Argument(help="The folder (or file) to keep.")],
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="NAME=NUMBER", help="How good it is; repeat it.")
    ] = None,
    teamspace: Teamspace = None,
    json: Json = False,
) -> None:
    """Store a folder as a new version of a model."""
    from blixt.client import Client, Model

    metrics = _metrics(metric or [])
    with Client(teamspace=teamspace) as client, byte_progress(f"Uploading {source}", None) as bar:
        version = Model.upload(
            name,
            source,
            metrics=metrics,
            on_bytes=lambda sent: bar.advance(bar.task_ids[0], sent),
            client=client,
        )
    if json:
        print_json(version)
    else:
        say(f"Model {name} has version {version.version} ({size(version.size_bytes)}).")


@app.command()
def delete(name: Name, teamspace: Teamspace = None) -> None:
    """Delete a model and all its versions."""
    from blixt.client import Client, Model

    with Client(teamspace=teamspace) as client:
        Model.get(name, client=client).delete()
    say(f"Model {name} is gone.")


def _check_version(version: str) -> None:
    if version != "latest" and not version.isdecimal():
        raise CliError(f"{version!r} is no version.", "Give a number, or latest.", 2)


def _metrics(pairs: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        try:
            found[key] = float(value)
        except ValueError:
            raise CliError(f"--metric {pair!r} is not NAME=NUMBER.", exit_code=2) from None
    return found
