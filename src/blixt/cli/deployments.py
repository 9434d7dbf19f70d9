"""blixt deploy, blixt deployment ...: services behind one address."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blixt.cli.failure import CliError
from blixt.cli.options import Env, Follow, Json, MachineName, Name, SecretNames, Teamspace, group, parse_env
from blixt.cli.output import ago, print_fields, print_json, print_table, say, waiting

if TYPE_CHECKING:
    from blixt.client import Deployment

app = group("See, follow, stop and start deployments.")


def deploy(
    name: Name,
    command: Annotated[list[str] | None, typer.Argument(help="What to run, after `--`; on $PORT.")] = None,
    model: Annotated[str | None, typer.Option(help="A Model, NAME or NAME:VERSION.")] = None,
    machine: MachineName = "cpu-1",
    min_replicas: Annotated[int, typer.Option("--min", help="Replicas that always run.")] = 0,
    max_replicas: Annotated[int, typer.Option("--max", help="Replicas under load.")] = 1,
    concurrency: Annotated[int, typer.Option(help="Requests in flight for one replica.")] = 8,
    idle_timeout_s: Annotated[int, typer.Option("--idle-timeout", help="Sleep after so many seconds.")] = 60,
    source: Annotated[str | None, typer.Option("--source", "-s", help="A folder to send along.")] = None,
    env: Env = None,
    secret: SecretNames = None,
    health_path: Annotated[str, typer.Option(help="Answers 200 when a replica is ready.")] = "/health",
    start_timeout_s: Annotated[int, typer.Option("--start-timeout", help="Seconds to become ready.")] = 120,
    public: Annotated[bool, typer.Option("--public", help="Serve without a token.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wake it and wait until it answers.")] = False,
    teamspace: Teamspace = None,
    json: Json = False,
) -> None:
    """Put a model (or a command) behind an address; it sleeps until the first request."""
    from blixt.client import Client, Deployment

    if not model and not command:
        raise CliError("There is nothing to deploy.", "Give --model NAME, or a command after `--`.", 2)
    with Client(teamspace=teamspace) as client:
        deployment = Deployment.create(
            name,
            model=model,
            command=(command[0] if command and len(command) == 1 else command),
            machine=machine,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            concurrency=concurrency,
            idle_timeout_s=idle_timeout_s,
            source=source,
            env=parse_env(env),
            secrets=secret or (),
            health_path=health_path,
            start_timeout_s=start_timeout_s,
            public=public,
            client=client,
        )
        if wait:
            with waiting(f"Waking {name} ..."):
                deployment.wait_ready(start_timeout_s)
        _show(deployment, json)


@app.command("list")
def list_(teamspace: Teamspace = None, json: Json = False) -> None:
    """List the deployments."""
    from blixt.client import Client, Deployment

    with Client(teamspace=teamspace) as client:
        found = Deployment.list(client=client)
        if json:
            print_json([_with_url(deployment) for deployment in found])
            return
        rows = [
            (
                deployment.name,
                deployment.state,
                str(deployment.spec.get("model") or "command"),
                f"{len(deployment.replicas)}/{deployment.spec.get('max_replicas', 1)}",
                str(deployment.data.status.get("requests_total") or 0),
                deployment.url,
            )
            for deployment in found
        ]
    columns = ("name", "state", "serves", ">replicas", ">requests", "url")
    print_table(columns, rows, empty="There are no deployments.")


@app.command()
def show(name: Name, teamspace: Teamspace = None, json: Json = False) -> None:
    """Show one deployment and its replicas."""
    from blixt.client import Client, Deployment

    with Client(teamspace=teamspace) as client:
        _show(Deployment.get(name, client=client), json)


@app.command()
def logs(
    name: Name,
    follow: Follow = False,
    replica: Annotated[str | None, typer.Option(help="Whose output; `show` lists them.")] = None,
    teamspace: Teamspace = None,
) -> None:
    """Print what a replica wrote."""
    from blixt.client import Client, Deployment

    with Client(teamspace=teamspace) as client:
        for piece in Deployment.get(name, client=client).logs(follow=follow, replica=replica):
            sys.stdout.write(piece.text)
            sys.stdout.flush()


@app.command()
def stop(name: Name, teamspace: Teamspace = None, json: Json = False) -> None:
    """Stop all replicas; requests are refused until `start`."""
    from blixt.client import Client, Deployment

    with Client(teamspace=teamspace) as client:
        _show(Deployment.get(name, client=client).stop(), json)


@app.command()
def start(name: Name, teamspace: Teamspace = None, json: Json = False) -> None:
    """Serve again."""
    from blixt.client import Client, Deployment

    with Client(teamspace=teamspace) as client:
        _show(Deployment.get(name, client=client).start(), json)


@app.command()
def delete(name: Name, teamspace: Teamspace = None) -> None:
    """Delete a deployment; its Model stays."""
    from blixt.client import Client, Deployment

    with Client(teamspace=teamspace) as client, waiting(f"Deleting {name} ..."):
        Deployment.get(name, client=client).delete()
    say(f"Deployment {name} is gone.")


def _with_url(deployment: "Deployment") -> dict[str, Any]:
    urls = {"url": deployment.url, "openai_base_url": deployment.openai_base_url}
    return deployment.data.to_json() | urls


def _show(deployment: "Deployment", json: bool) -> None:
    if json:
        print_json(_with_url(deployment))
        return
    spec, status = deployment.spec, deployment.data.status
    bounds = f"{spec.get('min_replicas')} to {spec.get('max_replicas')}"
    print_fields(
        {
            "name": deployment.name,
            "state": deployment.state,
            "reason": deployment.reason,
            "serves": str(spec.get("model") or "its own command"),
            "url": deployment.url,
            "OpenAI base_url": deployment.openai_base_url,
            "replicas": f"{len(deployment.replicas)} of {bounds} on {spec.get('machine')}",
            "requests": str(status.get("requests_total") or 0),
        }
    )
    for replica in deployment.replicas:
        print_fields(
            {f"  replica {replica['id']}": f"{replica['state']}, started {ago(replica.get('started_at'))}"}
        )
