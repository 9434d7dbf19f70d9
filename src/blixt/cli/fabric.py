"""blixt fabric ...: run a script on many devices and machines, put sharded checkpoints together."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from blixt.cli.failure import CliError, room
from blixt.cli.options import Json, group
from blixt.cli.output import print_json, say

app = group("Run a script on many devices and machines; put sharded checkpoints together.")
_ERRORS = ("FabricError",)
_PASS_ON = {"ignore_unknown_options": True}


@app.command(context_settings=_PASS_ON)
def run(
    script: Annotated[str, typer.Argument(help="A Python script with a Fabric.")],
    script_args: Annotated[
        list[str] | None, typer.Argument(help="What the script gets; everything unknown here goes to it.")
    ] = None,
    accelerator: Annotated[str | None, typer.Option(help="auto, cpu, gpu, cuda or mps.")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="ddp, fsdp, deepspeed ...; how devices share the work.")
    ] = None,
    devices: Annotated[str, typer.Option(help="How many, which ('0,1'), or auto; on each machine.")] = "1",
    num_nodes: Annotated[int, typer.Option("--num-nodes", "--num_nodes", help="Machines.", min=1)] = 1,
    node_rank: Annotated[
        int, typer.Option("--node-rank", "--node_rank", help="Index of this machine.", min=0)
    ] = 0,
    main_address: Annotated[
        str, typer.Option("--main-address", "--main_address", help="Of the machine with node rank 0.")
    ] = "127.0.0.1",
    main_port: Annotated[
        int, typer.Option("--main-port", "--main_port", help="A free port there; only for several machines.")
    ] = 29400,
    precision: Annotated[str | None, typer.Option(help="32-true, bf16-mixed, 16-mixed ...")] = None,
) -> int:
    """Run SCRIPT once per device, here and, started there too, on other machines.

    What is chosen here reaches the script's Fabric, whose own arguments may be left out.
    """
    if not Path(script).is_file():
        raise CliError(f"There is no script {script}.", "Options of this command come with their values.", 2)
    chosen = {"accelerator": accelerator, "strategy": strategy, "precision": precision}
    chosen |= {"devices": devices, "num_nodes": str(num_nodes), "cli_used": "1"}
    environment = {f"LT_{name.upper()}": value for name, value in chosen.items() if value is not None}
    if num_nodes > 1:
        environment |= {"MASTER_ADDR": main_address, "MASTER_PORT": str(main_port)}
        environment["NODE_RANK"] = str(node_rank)
    os.environ.update(environment)
    command = [sys.executable, script, *(script_args or [])]
    with room("fabric", *_ERRORS):
        from blixt.fabric import launch_command
        from blixt.fabric.accelerators import resolve_accelerator

        processes = 1
        if devices != "auto":
            processes = len(resolve_accelerator(accelerator or "auto").parse_devices(devices))
        return launch_command(command, processes, num_nodes)


@app.command()
def consolidate(
    checkpoint_folder: Annotated[str, typer.Argument(help="The folder of a sharded checkpoint.")],
    output_file: Annotated[
        str | None,
        typer.Option(
            "--output-file",
            "--output_file",
            help="Default: the folder's name + .consolidated. A .safetensors gets the weights alone",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make one file, which torch.load reads, of a sharded checkpoint."""
    with room("fabric", *_ERRORS):
        from blixt.fabric import consolidate as put_together

        path = put_together(checkpoint_folder, output_file)
    if json:
        print_json({"path": str(path)})
    else:
        say(f"The checkpoint is in {path}.")
