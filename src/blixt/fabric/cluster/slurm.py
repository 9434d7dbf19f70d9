"""Slurm: one task a process, started by srun; a job can be put back into the queue."""

import os
import re
import shutil
import signal
import socket
import subprocess
import warnings

from blixt.fabric.cluster.base import ClusterEnvironment, job_port, number
from blixt.fabric.errors import ConfigError

_INTERACTIVE = ("bash", "interactive")
_COMMAND_S = 60.0


class SlurmEnvironment(ClusterEnvironment):
    """The tasks of a Slurm job step.

    Args:
        auto_requeue: Take `requeue_signal` as "save, put the job back into the queue, leave".
        requeue_signal: Default SIGUSR1; ask Slurm for it with `#SBATCH --signal=SIGUSR1@90`.

    Raises:
        ConfigError: When tasks are spread unevenly over the machines.
    """

    name = "slurm"

    def __init__(self, auto_requeue: bool = True, requeue_signal: signal.Signals | None = None) -> None:
        self.auto_requeue = auto_requeue
        self.requeue_signal = (requeue_signal or signal.SIGUSR1) if auto_requeue else None
        self._address: str | None = None
        _refuse_uneven_tasks()

    @property
    def creates_processes_externally(self) -> bool:
        """Always: srun makes them."""
        return True

    @property
    def main_address(self) -> str:
        """MASTER_ADDR, else the first machine of the step."""
        if self._address is None:
            own = os.environ.get("MASTER_ADDR")
            names = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
            nodes = next((os.environ[name] for name in names if os.environ.get(name)), "127.0.0.1")
            self._address = own or _reachable(self.resolve_root_node_address(nodes))
        return self._address

    @property
    def main_port(self) -> int:
        """MASTER_PORT, else one that follows from the job's and the step's number."""
        job, step = number("SLURM_JOB_ID", 0), number("SLURM_STEP_ID", 0)
        return number("MASTER_PORT", job_port(job % 10000 + step))

    @staticmethod
    def detect() -> bool:
        """Whether srun started this process.

        In a batch script and in `salloc` Slurm's variables are there too, but nobody started the other
        tasks; an interactive shell is a job called bash or interactive.
        """
        if "SLURM_NTASKS" not in os.environ or SlurmEnvironment.job_name() in _INTERACTIVE:
            return False
        if "SLURM_JOB_ID" not in os.environ or "SLURM_STEP_ID" in os.environ:
            return "SLURM_PROCID" in os.environ
        if number("SLURM_NTASKS", 1) > 1:
            warnings.warn(
                f"Slurm gave this job {os.environ['SLURM_NTASKS']} tasks, but srun did not start this "
                "process, so it trains alone. Write `srun python ...` in the batch script.",
                stacklevel=2,
            )
        return False

    @staticmethod
    def job_name() -> str | None:
        """Of this job."""
        return os.environ.get("SLURM_JOB_NAME")

    @staticmethod
    def job_id() -> int | None:
        """Of this job; None outside of jobs and in interactive ones."""
        text = os.environ.get("SLURM_JOB_ID", "")
        return int(text) if text.isdecimal() and SlurmEnvironment.job_name() not in _INTERACTIVE else None

    @staticmethod
    def resolve_root_node_address(nodes: str) -> str:
        """The first machine of a list as Slurm writes it.

        Example:
            >>> SlurmEnvironment.resolve_root_node_address("gpu[07-09,12],login1")
            'gpu07'
        """
        first = re.match(r"([^\[,\s]+)(?:\[([^\],-]+)[^\]]*\])?([^\[,\s]*)", nodes)
        return "".join(part or "" for part in first.groups()) if first else nodes

    @property
    def restart_count(self) -> int:
        """How often Slurm has started this job again."""
        return number("SLURM_RESTART_COUNT", 0)

    def world_size(self) -> int:
        """SLURM_NTASKS."""
        return number("SLURM_NTASKS")

    def global_rank(self) -> int:
        """SLURM_PROCID."""
        return number("SLURM_PROCID")

    def local_rank(self) -> int:
        """SLURM_LOCALID."""
        return number("SLURM_LOCALID")

    def node_rank(self) -> int:
        """SLURM_NODEID."""
        return number("SLURM_NODEID")

    def local_world_size(self) -> int | None:
        """Tasks of this step on this machine."""
        counts = tasks_per_node()
        if counts:
            return counts[min(number("SLURM_NODEID", 0), len(counts) - 1)]
        known = number("SLURM_NTASKS_PER_NODE", 0)
        return known or None

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """`devices` must be the tasks a machine, `num_nodes` the machines."""
        tasks = self.local_world_size() or num_devices
        if tasks != num_devices:
            reason = f"Slurm started {tasks} task(s) on each machine"
            fix = f"Use devices={tasks} or 'auto', or #SBATCH --ntasks-per-node={num_devices}"
            raise ConfigError("devices", num_devices, reason, fix)
        nodes = number("SLURM_STEP_NUM_NODES", number("SLURM_NNODES", num_nodes))
        if nodes != num_nodes:
            reason = f"Slurm gave this job {nodes} machine(s)"
            raise ConfigError("num_nodes", num_nodes, reason, f"Use num_nodes={nodes}")

    def requeue(self) -> str | None:
        """Put this job, or this task of a job array, back into the queue."""
        array = os.environ.get("SLURM_ARRAY_JOB_ID")
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID")
        if job is None:
            return None
        command = ["scontrol", "requeue", job]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_S, check=False)
            trouble = done.stderr.strip() if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            trouble = str(error)
        if trouble:
            warnings.warn(
                f"The job could not be requeued: `{' '.join(command)}` says {trouble}.", stacklevel=2
            )
            return None
        return job


def tasks_per_node() -> list[int]:
    """The tasks of this step on each of its machines; empty when Slurm does not say.

    Slurm writes "2(x3),1" for 2, 2, 2 and 1.
    """
    names = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")
    text = next((os.environ[name] for name in names if os.environ.get(name)), "")
    counts: list[int] = []
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match is None:
            raise ConfigError(
                "SLURM_TASKS_PER_NODE", text, "it is no list of counts", "Correct the environment"
            )
        counts += [int(match.group(1))] * int(match.group(2) or 1)
    return counts


def _refuse_uneven_tasks() -> None:
    counts = tasks_per_node()
    if len(set(counts)) > 1:
        reason = f"the machines have {', '.join(map(str, counts))} tasks, and each needs equally many"
        fix = "Ask with #SBATCH --ntasks-per-node=N instead of --ntasks"
        raise ConfigError("SLURM_NTASKS", os.environ.get("SLURM_NTASKS"), reason, fix)


def _reachable(node: str) -> str:
    """The machine's name, or its address in Slurm's configuration where the name means nothing here."""
    try:
        socket.getaddrinfo(node, None)
    except OSError:
        if shutil.which("scontrol") is None:
            return node
        shown = subprocess.run(
            ["scontrol", "show", "node", node],
            capture_output=True,
            text=True,
            timeout=_COMMAND_S,
            check=False,
        )
        address = re.search(r"NodeAddr=(\S+)", shown.stdout)
        return address.group(1) if address else node
    return node
