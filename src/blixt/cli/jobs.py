"""blixt run, blixt job ...: commands that run to their end."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from blixt.cli.failure import CliError
from blixt.cli.options import Env, Follow, Json, MachineName, Name, SecretNames, Teamspace, group, parse_env
from blixt.cli.output import ago, duration, print_fields, print_json, print_table, say, waiting

if TYPE_CHECKING:
    from blixt.client import Job

app = group("See, follow and stop jobs.")


def run(
    command: Annotated[list[str], typer.Argument(help="The command, after `--`; one word is a shell line.")],
    name: Annotated[str | None, typer.Option("--name", "-n", help="Made from the command if absent.")] = None,
    machine: MachineName = "cpu-1",
    machines: Annotated[int, typer.Option(help="How many machines.")] = 1,
    processes: Annotated[int, typer.Option("--processes", "-p", help="Processes on each machine.")] = 1,
    source: Annotated[str, typer.Option("--source", "-s", help="The folder to send along.")] = ".",
    no_source: Annotated[bool, typer.Option("--no-source", help="Send no files.")] = False,
    studio: Annotated[str | None, typer.Option(help="Start from a copy of this Studio's files.")] = None,
    model: Annotated[str | None, typer.Option(help="Keep $BLIXT_MODEL_OUT as a version of it.")] = None,
    experiment: Annotated[str | None, typer.Option(help="Where metrics go; the job's name.")] = None,
    env: Env = None,
    secret: SecretNames = None,
    max_restarts: Annotated[int, typer.Option(help="Start again after a failure, so often.")] = 0,
    timeout_s: Annotated[int | None, typer.Option("--timeout", help="End it after so many seconds.")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return at once.")] = False,
    teamspace: Teamspace = None,
    json: Json = False,
) -> int:
    """Run a command as a job, show its log live, and exit with 0 when it succeeds.

    Ctrl-C leaves the job running; `blixt job stop NAME` ends it.
    """
    from blixt.client import Client, Job

    words = command[1:] if command[0] == "--" else command
    with Client(teamspace=teamspace) as client:
        with waiting("Sending the job ..."):
            job = Job.run(
                words[0] if len(words) == 1 else words,
                name=name,
                machine=machine,
                machines=machines,
                processes=processes,
                source=None if no_source else source,
                studio=studio,
                model=model,
                experiment=experiment,
                env=parse_env(env),
                secrets=secret or (),
                max_restarts=max_restarts,
                timeout_s=timeout_s,
                client=client,
            )
        if detach:
            _tell(job, json, f"Job {job.name} is on its way. Follow it: blixt job logs {job.name} -f")
            return 0
        say(f"Job {job.name} on {machines if machines > 1 else 'one'} {machine}.")
        return _follow(job, json)


@app.command("list")
def list_(teamspace: Teamspace = None, json: Json = False) -> None:
    """List the jobs, the newest first."""
    from blixt.client import Client, Job

    with Client(teamspace=teamspace) as client:
        jobs = sorted(Job.list(client=client), key=lambda job: -job.data.created_at)
    if json:
        print_json([job.data.to_json() for job in jobs])
        return
    rows = [
        (job.name, job.state, _shape(job), _took(job), ago(job.data.created_at), _command(job, 48))
        for job in jobs
    ]
    print_table(("name", "state", "machine", "took", "created", "command"), rows, empty="There are no jobs.")


@app.command()
def show(name: Name, teamspace: Teamspace = None, json: Json = False) -> None:
    """Show one job."""
    from blixt.client import Client, Job

    with Client(teamspace=teamspace) as client:
        job = Job.get(name, client=client)
    if json:
        print_json(job.data.to_json())
        return
    version = f"{job.spec.get('model')} version {job.model_version}" if job.model_version else ""
    print_fields(
        {
            "name": job.name,
            "state": job.state,
            "reason": job.reason,
            "exit code": "" if job.exit_code is None else str(job.exit_code),
            "command": _command(job),
            "machine": _shape(job),
            "took": _took(job),
            "attempt": str(job.data.status.get("attempt") or ""),
            "experiment": job.experiment,
            "model": version or str(job.spec.get("model") or ""),
            "owner": job.data.owner,
            "created": ago(job.data.created_at),
        }
    )


@app.command()
def logs(
    name: Name,
    follow: Follow = False,
    rank: Annotated[str, typer.Option(help="Whose output: a number, or all.")] = "0",
    since: Annotated[str, typer.Option(help="Begin at this offset.")] = "0",
    teamspace: Teamspace = None,
    json: Json = False,
) -> None:
    """Print what a job wrote; with --json one object a line."""
    import json as jsons
    from dataclasses import asdict

    from blixt.client import Client, Job

    every = rank == "all"
    if not every and not rank.isdecimal():
        raise CliError(f"{rank!r} is no rank.", "Give a number, or all.", 2)
    with Client(teamspace=teamspace) as client:
        job = Job.get(name, client=client)
        for piece in job.logs(follow=follow, since=since, rank="all" if every else int(rank)):
            text = _marked(piece.text, piece.rank) if every else piece.text
            sys.stdout.write(jsons.dumps(asdict(piece)) + "\n" if json else text)
            sys.stdout.flush()


@app.command()
def wait(
    name: Name,
    timeout_s: Annotated[float | None, typer.Option("--timeout", help="At most so many seconds.")] = None,
    teamspace: Teamspace = None,
    json: Json = False,
) -> int:
    """Wait for a job's end; exits with 0 when it succeeded."""
    from blixt.client import Client, Job

    with Client(teamspace=teamspace) as client, waiting(f"Waiting for {name} ..."):
        job = Job.get(name, client=client).wait(timeout_s)
    return _ended(job, json)


@app.command()
def stop(name: Name, teamspace: Teamspace = None, json: Json = False) -> None:
    """Stop a job."""
    from blixt.client import Client, Job

    with Client(teamspace=teamspace) as client, waiting(f"Stopping {name} ..."):
        job = Job.get(name, client=client).stop()
    _tell(job, json, f"Job {name} is {job.state}.")


@app.command()
def delete(name: Name, teamspace: Teamspace = None) -> None:
    """Delete a job, its log and its files; its Experiment and Model stay."""
    from blixt.client import Client, Job

    with Client(teamspace=teamspace) as client, waiting(f"Deleting {name} ..."):
        Job.get(name, client=client).delete()
    say(f"Job {name} is gone.")


def _marked(text: str, rank: int) -> str:
    """Put the rank in front of each line of a piece."""
    return "".join(f"[{rank}] {line}" for line in text.splitlines(keepends=True))


def _follow(job: "Job", json: bool) -> int:
    """Show a job's log until its end, then say how it ended."""
    out = sys.stderr if json else sys.stdout
    try:
        for piece in job.logs(follow=True):
            out.write(piece.text)
            out.flush()
        job.wait(60)
    except KeyboardInterrupt:
        say(f"The job goes on. Follow it: blixt job logs {job.name} -f; end it: blixt job stop {job.name}")
        raise
    return _ended(job, json)


def _ended(job: "Job", json: bool) -> int:
    if json:
        print_json(job.data.to_json())
        return 0 if job.state == "succeeded" else 1
    if job.state != "succeeded":
        reason = job.reason or f"exit code {job.exit_code}"
        raise CliError(f"Job {job.name} {job.state}: {reason}", f"See `blixt job logs {job.name}`.")
    made = f", made {job.spec.get('model')} version {job.model_version}" if job.model_version else ""
    say(f"Job {job.name} succeeded in {_took(job)}{made}.")
    return 0


def _tell(job: "Job", json: bool, sentence: str) -> None:
    if json:
        print_json(job.data.to_json())
    else:
        say(sentence)


def _took(job: "Job") -> str:
    began, ended = job.data.status.get("started_at"), job.data.status.get("finished_at")
    if not began:
        return ""
    import time

    return duration((ended or time.time()) - began)


def _shape(job: "Job") -> str:
    machines, processes = int(job.spec.get("machines", 1)), int(job.spec.get("processes", 1))
    shape = f"{machines} x " if machines > 1 else ""
    return f"{shape}{job.spec.get('machine', '')}" + (f", {processes} ranks" if processes > 1 else "")


def _command(job: "Job", limit: int | None = None) -> str:
    import shlex

    command: str | Sequence[str] = job.spec.get("command", "")
    text = " ".join((command if isinstance(command, str) else shlex.join(command)).split())
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"
