"""blixt up, down, status: the cloud on this machine."""

from pathlib import Path
from typing import Annotated, Any

import typer

from blixt.cli.failure import CliError, room
from blixt.cli.options import Json
from blixt.cli.output import print_fields, print_json, say

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Where everything is kept; BLIXT_DATA_DIR or ~/.blixt.")
]
_PORT = 8480


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when it is ready.")] = False,
    port: Annotated[
        int, typer.Option(help="The public port; 0 picks a free one.", envvar="BLIXT_PORT")
    ] = _PORT,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    data_dir: DataDir = None,
    json: Json = False,
) -> int:
    """Start the cloud on this machine: API, console, gateway and the engine that runs your work.

    Without --detach it runs until Ctrl-C, and leaves nothing behind.
    """
    if not 0 <= port <= 65535:
        raise CliError(f"The port {port} is not between 0 and 65535.", "Choose another with --port.", 2)
    with room("cloud", "SupervisorError", "CloudError"):
        from blixt.cloud import supervisor

        def ready(_: object) -> None:
            _welcome(supervisor.status(data_dir), detach=detach, json=json)

        code = supervisor.up(
            data_dir, host=host, port=port, detach=detach, on_ready=None if detach else ready
        )
        if detach and code == 0:
            ready(None)
        return code


def down(data_dir: DataDir = None, json: Json = False) -> None:
    """Stop the cloud on this machine and everything that runs on it; files stay."""
    with room("cloud", "SupervisorError", "CloudError"):
        from blixt.cloud import supervisor

        stopped = supervisor.down(data_dir)
    if json:
        print_json({"stopped": stopped})
    else:
        say("Stopped." if stopped else "Nothing was running.")


def status(data_dir: DataDir = None, json: Json = False) -> int:
    """Say whether the cloud is up, where, and what runs on it. Exits with 1 when it is down."""
    from blixt.client import Client, credits, default_data_dir

    folder = data_dir or default_data_dir()
    url, token = _local_connection(folder) if data_dir else (None, None)
    with Client(url, token) as client:
        facts = _facts(client)
    if json:
        print_json(facts)
        return 0
    running: dict[str, list[str]] = facts["running"]
    print_fields(
        {
            "server": f"{facts['url']} (blixt {facts['version']})",
            "you": facts["user"],
            "teamspace": facts["teamspace"],
            **{kind: ", ".join(names) for kind, names in running.items()},
            "spending": f"{credits(facts['spent_uc'])} so far",
        }
    )
    return 0


def _local_connection(folder: Path) -> tuple[str, str]:
    """The url and token of the server that keeps its data in this folder."""
    import json

    server, token = folder / "server.json", folder / "token"
    if not server.exists() or not token.exists():
        raise CliError(
            f"No server is running on the data folder {folder}.", f"Start it: blixt up --data-dir {folder}"
        )
    return str(json.loads(server.read_text())["url"]), token.read_text().strip()


def _facts(client: Any) -> dict[str, Any]:
    """What `blixt status` tells."""
    identity = client.whoami()
    active = {"running", "starting", "pending", "ready", "degraded", "stopping"}
    running = {
        plural: [data.name for data in client.list_objects(plural) if data.status.get("state") in active]
        for plural in ("studios", "jobs", "deployments")
    }
    return {
        "url": client.url,
        "version": identity.server_version,
        "user": identity.user,
        "teamspace": client.teamspace,
        "running": running,
        "spent_uc": client.bill().total_uc,
    }


def _welcome(found: Any, *, detach: bool, json: bool) -> None:
    """Say where the cloud is, and how to get in and out again."""
    from blixt.client import Client

    url, token = _local_connection(Path(found.data_dir))
    with Client(url, token) as client:
        link = client.console_url()
    if json:
        print_json({"url": found.url, "pid": found.pid, "data_dir": str(found.data_dir), "console_url": link})
        return
    say(f"blixt {found.version} is up at {found.url} (data in {found.data_dir}).")
    say(f"Console, signed in, for one use: {link}")
    say("Stop it with `blixt down`." if detach else "Ctrl-C stops it and all that runs on it.")
