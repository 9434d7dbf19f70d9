"""blixt serve ...: serve the API in a Python file, load a service, wrap it in an image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from blixt.cli.failure import CliError, room
from blixt.cli.options import Json
from blixt.cli.output import print_json, say

File = Annotated[Path, typer.Argument(help="A Python file with a blixt.serve.Server or API.")]
Header = Annotated[
    list[str] | None, typer.Option("--header", "-H", metavar="NAME: VALUE", help="Repeatable.")
]


class _FileIsRun(TyperGroup):
    """`blixt serve app.py` is `blixt serve run app.py`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` before a first word that is no command."""
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


serve = typer.Typer(
    cls=_FileIsRun,
    help="Serve the API in a Python file: `blixt serve app.py`; load a service; wrap it in an image.",
    no_args_is_help=True,
    add_completion=False,
)


@serve.command("run")
def run(
    file: File,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 picks a free one.")] = 8000,
    uds: Annotated[str | None, typer.Option(help="A unix socket to listen on instead.")] = None,
    workers: Annotated[int, typer.Option(help="Workers on each device.", min=1)] = 1,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    devices: Annotated[str, typer.Option(help="auto, or how many.")] = "auto",
    fronts: Annotated[int, typer.Option(help="Processes that take requests.", min=1)] = 1,
    timeout: Annotated[float, typer.Option(help="Seconds that a client waits for progress.")] = 30.0,
    access_log: Annotated[
        str | None,
        typer.Option(help="Append a JSON line for each answer to this file; - is stderr."),
    ] = None,
    reload: Annotated[bool, typer.Option("--reload", help="Start again when the code changes.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Set up, answer the examples, and end.")] = False,
) -> int:
    """Serve the Server (or the APIs) that a Python file defines; `run` may be left out.

    A file's own `server` knows its workers, devices, fronts and timeout; the options are for plain APIs.
    """
    _exists(file)
    options: dict[str, Any] = {
        "workers_per_device": workers,
        "accelerator": accelerator,
        "devices": int(devices) if devices.isdigit() else devices,
        "fronts": fronts,
        "timeout_s": timeout,
    }
    with room("serve", "ServeError"):
        from blixt.serve import Web, run_file, run_with_reload, server_of
        from blixt.serve import dry_run as rehearse

        if access_log is not None:
            options["web"] = Web(access_log=access_log)

        if dry_run:
            server = server_of(file, **options)
            return rehearse(server.apis, accelerator, options["devices"])
        serve_it = run_with_reload if reload else run_file
        serve_it(file, host=host, port=port, uds=uds, **options)
    return 0


@serve.command()
def bench(
    service: Annotated[
        str, typer.Argument(metavar="URL|FILE", help="A running service, or a file to serve.")
    ],
    path: Annotated[
        str, typer.Option(help="The API's path, when a file or a bare address is given.")
    ] = "/predict",
    data: Annotated[str, typer.Option("--data", "-d", help="The body: JSON text, or @FILE.")] = "{}",
    concurrency: Annotated[str, typer.Option("-c", help="Connections; several rounds as 1,8,32.")] = "1,8,32",
    seconds: Annotated[float, typer.Option("-s", help="How long each round takes.", min=0.1)] = 5.0,
    rate: Annotated[float | None, typer.Option(help="Send so many a second, whatever comes back.")] = None,
    header: Header = None,
    pid: Annotated[int | None, typer.Option(help="Also measure the CPU time of this process tree.")] = None,
    json: Json = False,
) -> None:
    """Load a service and print throughput, latency percentiles, CPU per request and the latency curve.

    Without --rate each connection sends its next request when it has its answer. With it, requests come
    evenly and latency counts from when each was due.
    """
    with room("serve", "ServeError"):
        from blixt.cli.serve_bench import Plan, measure, show

        plan = Plan(path, _body(data), _headers(header), _counts(concurrency), seconds, rate, pid)
        measured = measure(service, plan, say)
        if json:
            print_json([line for line, _ in measured])
        else:
            show(measured)


@serve.command()
def docker(
    file: File,
    port: Annotated[int, typer.Option(help="Where the service listens in the container.")] = 8000,
    gpu: Annotated[bool, typer.Option("--gpu", help="Build on NVIDIA's CUDA runtime image.")] = False,
    extra: Annotated[
        list[str] | None, typer.Option(help="An extra of blixt, such as llm; repeatable.")
    ] = None,
    requirements: Annotated[str | None, typer.Option(help="Another file than requirements.txt.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a Dockerfile that is there.")] = False,
) -> None:
    """Write a Dockerfile beside a file, for `docker build` or any other builder."""
    with room("serve", "ServeError"):
        from blixt.serve.docker import Image, write

        for path in write(Image(file, port, gpu, tuple(extra or ()), requirements), force=force):
            say(f"wrote {path}")
    gpus = "--gpus all " if gpu else ""
    say(f"docker build -t my-service {file.parent} && docker run {gpus}-p {port}:{port} my-service")


def _exists(file: Path) -> None:
    if not file.is_file():
        raise CliError(f"There is no file {str(file)!r}.", "Name a Python file that defines a Server.")


def _body(data: str) -> bytes:
    if not data.startswith("@"):
        return data.encode()
    return Path(data[1:]).read_bytes()


def _headers(given: Sequence[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given or []:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise CliError(f"--header {text!r} is not 'NAME: VALUE'.", exit_code=2)
        found[name.strip().lower()] = value.strip()
    return found


def _counts(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdigit() and int(word) > 0 for word in words):
        raise CliError(f"-c {text!r} is not a list of counts such as 1,8,32.", exit_code=2)
    return [int(word) for word in words]
