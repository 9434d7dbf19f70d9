"""blixt studio ...: persistent machines to work in."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from blixt.cli.options import Env, Json, MachineName, Name, SecretNames, Teamspace, Yes, group, parse_env
from blixt.cli.output import ago, byte_progress, print_json, print_table, say, size, waiting

if TYPE_CHECKING:
    from blixt.client import Studio

app = group("Persistent machines to work in.")


@app.command()
def create(
    name: Name,
    machine: MachineName = "cpu-1",
    env: Env = None,
    secret: SecretNames = None,
    idle_timeout_s: Annotated[
        int, typer.Option("--idle-timeout", help="Stop after so many idle seconds; 0 never.")
    ] = 0,
    start: Annotated[bool, typer.Option(help="Start it now.")] = True,
    teamspace: Teamspace = None,
    json: Json = False,
) -> None:
    """Create a Studio and start it."""
    from blixt.client import Client, Studio

    with waiting(f"Creating Studio {name} ..."), Client(teamspace=teamspace) as client:
        studio = Studio.create(
            name,
            machine=machine,
            env=parse_env(env),
            secrets=secret or (),
            idle_timeout_s=idle_timeout_s,
            start=start,
            client=client,
        )
    if json:
        print_json(studio.data.to_json())
    else:
        say(f"Studio {name} is {studio.state} on {machine}. Try: blixt studio run {name} -- uname -a")


@app.command("list")
def list_(teamspace: Teamspace = None, json: Json = False) -> None:
    """List the Studios."""
    from blixt.client import Client, Studio

    with Client(teamspace=teamspace) as client:
        studios = Studio.list(client=client)
    if json:
        print_json([studio.data.to_json() for studio in studios])
        return
    rows = [
        (studio.name, studio.state, studio.machine, studio.data.owner, ago(studio.data.created_at))
        for studio in studios
    ]
    print_table(("name", "state", "machine", "owner", "created"), rows, empty="There are no Studios.")


@app.command()
def start(name: Name, teamspace: Teamspace = None, json: Json = False) -> None:
    """Start a Studio; its files are where they were."""
    from blixt.client import Client, Studio

    with waiting(f"Starting {name} ..."), Client(teamspace=teamspace) as client:
        studio = Studio.get(name, client=client).start()
    _tell(studio, json)


@app.command()
def stop(name: Name, teamspace: Teamspace = None, json: Json = False) -> None:
    """Stop a Studio: its processes end, its files stay, it costs nothing more."""
    from blixt.client import Client, Studio

    with waiting(f"Stopping {name} ..."), Client(teamspace=teamspace) as client:
        studio = Studio.get(name, client=client).stop()
    _tell(studio, json)


@app.command()
def run(
    name: Name,
    command: Annotated[list[str], typer.Argument(help="The command, after `--`; one word is a shell line.")],
    cwd: Annotated[str | None, typer.Option(help="The folder, relative to home.")] = None,
    env: Env = None,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", help="End it after so many seconds.")
    ] = None,
    teamspace: Teamspace = None,
    json: Json = False,
) -> int:
    """Run a command in a Studio: output as it comes, and the command's own exit code."""
    from blixt.client import Client, Studio, print_output

    with Client(teamspace=teamspace) as client:
        result = Studio.get(name, client=client).run(
            command[0] if len(command) == 1 else command,
            on_output=None if json else print_output,
            cwd=cwd,
            env=parse_env(env),
            timeout_s=timeout_s,
        )
    if json:
        print_json(result)
    return result.exit_code


@app.command()
def terminal(
    name: Name,
    session: Annotated[str | None, typer.Option(help="Join or begin a session of this name.")] = None,
    teamspace: Teamspace = None,
) -> int:
    """Open a terminal in a Studio."""
    from blixt.cli.tty import attach
    from blixt.client import Client, Studio

    with Client(teamspace=teamspace) as client:
        return attach(Studio.get(name, client=client), session)


@app.command()
def upload(
    name: Name,
    source: Annotated[str, typer.Argument(help="A file or folder here.")],
    dest: Annotated[str, typer.Argument(help="The path there, relative to home.")] = "",
    teamspace: Teamspace = None,
    json: Json = False,
) -> None:
    """Copy a file or a folder into a Studio."""
    from blixt.client import Client, Studio

    with Client(teamspace=teamspace) as client, byte_progress(f"Uploading {source}", None) as bar:
        sent = Studio.get(name, client=client).upload(
            source, dest, on_bytes=lambda sent: bar.advance(bar.task_ids[0], sent)
        )
    if json:
        print_json({"bytes": sent})
    else:
        say(f"Sent {size(sent)}.")


@app.command()
def download(
    name: Name,
    source: Annotated[str, typer.Argument(help="The path there, relative to home.")],
    dest: Annotated[str, typer.Argument(help="The path here.")] = ".",
    teamspace: Teamspace = None,
    json: Json = False,
) -> None:
    """Copy a file or a folder out of a Studio."""
    from blixt.client import Client, Studio

    with Client(teamspace=teamspace) as client, waiting(f"Downloading {source} ..."):
        received = Studio.get(name, client=client).download(source, dest)
    if json:
        print_json({"bytes": received})
    else:
        say(f"Received {size(received)}.")


@app.command("open")
def open_(
    name: Name,
    port: Annotated[int | None, typer.Option(help="A port in the Studio instead of JupyterLab.")] = None,
    browser: Annotated[bool, typer.Option("--browser", "-b", help="Open it in a browser.")] = False,
    teamspace: Teamspace = None,
    json: Json = False,
) -> None:
    """Print a one-time link to JupyterLab, or to a port, in a Studio."""
    from blixt.client import Client, Studio

    with Client(teamspace=teamspace) as client, waiting(f"Opening {name} ..."):
        url = Studio.get(name, client=client).open(port or "jupyter")
    if json:
        print_json({"url": url})
    else:
        print(url)
    if browser:
        typer.launch(url)


@app.command()
def delete(name: Name, yes: Yes = False, teamspace: Teamspace = None) -> None:
    """Delete a Studio and its files."""
    from blixt.client import Client, Studio

    with Client(teamspace=teamspace) as client:
        studio = Studio.get(name, client=client)
        if not yes and sys.stdin.isatty():
            typer.confirm(f"Delete the Studio {name} and all its files?", abort=True)
        with waiting(f"Deleting {name} ..."):
            studio.delete()
    say(f"Studio {name} is gone.")


def _tell(studio: "Studio", json: bool) -> None:
    if json:
        print_json(studio.data.to_json())
    else:
        say(f"Studio {studio.name} is {studio.state}.")
