"""Make the processes that train together, and never leave one behind.

A script is run again once per rank, with torchrun's variables; the first process only watches over the
others and ends with their exit code. A function is called in spawned or forked processes. In both cases
the watching process of the first machine holds the store where the ranks meet, so that on one machine no
port has to be guessed, and every rank has a pipe whose end tells it that its launcher is gone.
"""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from blixt.fabric.cluster.base import CHOSEN_VARIABLE, World, rank_variables
from blixt.fabric.launch_place import Place, find_place

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_GUARD_VARIABLE = "BLIXT_LAUNCHER_FD"
FORKED_VARIABLE = "BLIXT_FORKED"
"""Set in forked ranks: OpenMP's threads did not come along, and waiting for them would never end."""
_kept: list[object] = []  # a pipe that nobody refers to would be closed under its reader


def launch_script(processes: int, num_nodes: int = 1) -> NoReturn:
    """Run this program once per rank of this machine, wait, and exit as they did.

    Args:
        processes: Ranks on this machine.
        num_nodes: Machines. The script is started on each of them, with MASTER_ADDR, MASTER_PORT and
            NODE_RANK in the environment.
    """
    from blixt.fabric.launch_script import run_ranks

    raise SystemExit(run_ranks(find_place(processes, num_nodes)))


def launch_command(command: list[str], processes: int, num_nodes: int = 1) -> int:
    """Run another program once per rank of this machine, wait, and return its exit code.

    Args:
        command: The program and its arguments.
        processes: Ranks on this machine.
        num_nodes: Machines, as for `launch_script`.
    """
    from blixt.fabric.launch_script import run_ranks

    return run_ranks(find_place(processes, num_nodes), command)


def launch_function(
    processes: int,
    entry: Callable[..., Any],
    args: tuple[Any, ...],
    start_method: str = "spawn",
    num_nodes: int = 1,
) -> Any:
    """Call `entry(*args)` in new processes of this machine; returns what rank 0 returned.

    Args:
        processes: Ranks on this machine.
        entry: What each rank runs.
        args: For `entry`; both must be picklable, except with "fork".
        start_method: "spawn" (fresh processes), "fork" (copies of this one; for notebooks) or "forkserver".
        num_nodes: Machines, as for `launch_script`. Elsewhere than on the first, the answer is None.

    Raises:
        LaunchError: When a rank failed: the others were stopped, its traceback is part of the message and
            its exception the error's cause.
        ConfigError: When this process cannot be forked any more.
    """
    from blixt.fabric.launch_function import call_in_ranks

    return call_in_ranks(find_place(processes, num_nodes), entry, args, start_method)


def rank_environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    """torchrun's variables for one rank of this machine, whose launcher holds the store."""
    return environment_of(Place(world_size, 1, 0, "127.0.0.1", port, None), rank)


def environment_of(place: Place, local_rank: int) -> dict[str, str]:
    """torchrun's variables for one rank of a place, whose launcher holds the store."""
    world = World(
        rank=place.node_rank * place.processes + local_rank,
        local_rank=local_rank,
        world_size=place.world_size,
        local_world_size=place.processes,
        node_rank=place.node_rank,
    )
    return {
        **rank_variables(world),
        "MASTER_ADDR": place.address,
        "MASTER_PORT": str(place.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        CHOSEN_VARIABLE: "",
    }


def interactive() -> bool:
    """Whether a person types at this process, in a terminal or a notebook, so that there is no script."""
    return hasattr(sys, "ps1") or bool(sys.flags.interactive)


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel."""
    shell = sys.modules.get("IPython")
    current = shell.get_ipython() if shell is not None else None
    return type(current).__name__ == "ZMQInteractiveShell"


def share_cores(processes: int) -> None:
    """Let each of several processes of this machine use its part of the cores, unless OMP_NUM_THREADS says.

    Otherwise all of them would use all cores, and spend most of the time waiting for each other.
    """
    import torch

    if processes > 1 and "OMP_NUM_THREADS" not in os.environ and FORKED_VARIABLE not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))


def die_with_launcher(guard: "Connection | None" = None) -> None:
    """End this process when the one that launched it is gone, however it went.

    Args:
        guard: The reading end of the launcher's pipe; None takes the one in the environment, if any.
    """
    if guard is not None:
        descriptor = guard.fileno()
    elif _GUARD_VARIABLE in os.environ:
        descriptor = int(os.environ.pop(_GUARD_VARIABLE))
    else:
        return

    def wait_for_end() -> None:
        os.read(descriptor, 1)
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(1)

    _kept.append(guard)
    threading.Thread(target=wait_for_end, name="blixt-launcher-guard", daemon=True).start()


def guard_environment(descriptor: int) -> dict[str, str]:
    """Tell a rank which inherited pipe ends with its launcher."""
    return {_GUARD_VARIABLE: str(descriptor)}
