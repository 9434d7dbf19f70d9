"""A real Slurm of several nodes on this machine: munged, slurmctld and one slurmd per node, no systemd."""

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scancel", "scontrol", "sinfo")
_READY_S = 90.0
_STOP_S = 10.0
_PORTS = (26000, 32000)


@dataclass(frozen=True)
class Slurm:
    """A running cluster.

    Attributes:
        environment: for `srun` and the others.
        nodes: how many there are.
    """

    environment: dict[str, str]
    nodes: int

    def srun(self, *command: str, timeout_s: float) -> "subprocess.CompletedProcess[str]":
        """Run one task per node and wait."""
        every = ["srun", f"-N{self.nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
        return subprocess.run(
            [*every, *command],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def call(self, *command: str, timeout_s: float = 60.0) -> str:
        """Run one of Slurm's programs; returns what it printed."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout


def missing() -> str | None:
    """Say what keeps a Slurm from running here, None when nothing does."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if absent:
        return f"Slurm is not installed: {', '.join(absent)} missing (apt install slurm-wlm munge)"
    return None if os.geteuid() == 0 else "slurmd runs tasks of other users only as root"


@contextmanager
def cluster(folder: Path, nodes: int = 3) -> Iterator[Slurm]:
    """Start munged, a controller and the nodes; stop them at the end."""
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    environment["SLURM_CONF"] = str(_configure(folder, nodes))
    with ExitStack() as running:
        running.enter_context(_munged(folder, environment))
        running.enter_context(_daemon(["slurmctld", "-D", "-i"], folder / "ctld.out", environment))
        for node in range(1, nodes + 1):
            command = ["slurmd", "-D", "-N", f"n{node}"]
            running.enter_context(_daemon(command, folder / f"n{node}.out", environment))
        _wait_until_idle(environment, nodes)
        yield Slurm(environment, nodes)


def _configure(folder: Path, nodes: int) -> Path:
    host, (controller, *ports) = socket.gethostname(), _free_ports(nodes + 1)
    (folder / "state").mkdir()
    lines = [
        "ClusterName=blixt",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={controller}",
        "SlurmUser=root",
        "SlurmdUser=root",
        f"AuthInfo=socket={folder}/munge.sock",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "SwitchType=switch/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        "ReturnToService=2",
        # A machine with a busy neighbour answers late; Slurm's own limits, some of them 2 s, suit real nodes.
        "MessageTimeout=60",
        "TCPTimeout=30",
        "BatchStartTimeout=120",
        "SlurmdParameters=config_overrides",
        "JobAcctGatherType=jobacct_gather/none",
        "AccountingStorageType=accounting_storage/none",
        f"SlurmctldPidFile={folder}/ctld.pid",
        f"SlurmctldLogFile={folder}/ctld.log",
        f"SlurmdSpoolDir={folder}/spool.%n",
        f"SlurmdPidFile={folder}/d.%n.pid",
        f"SlurmdLogFile={folder}/d.%n.log",
        f"StateSaveLocation={folder}/state",
        *(
            f"NodeName=n{node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=2000"
            for node, port in enumerate(ports, 1)
        ),
        f"PartitionName=main Nodes=n[1-{nodes}] Default=YES State=UP",
    ]
    conf = folder / "slurm.conf"
    conf.write_text("\n".join(lines) + "\n")
    return conf


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on, below those that connections of other programs get meanwhile."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(*_PORTS)
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            found += [port] if port not in found else []
    return found


@contextmanager
def _munged(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    files = {"key-file": key, "socket": folder / "munge.sock", "pid-file": folder / "munge.pid"}
    files |= {"log-file": folder / "munge.log", "seed-file": folder / "munge.seed"}
    options = [f"--{name}={path}" for name, path in files.items()]
    with _daemon(["munged", "--foreground", "--force", *options], folder / "munge.out", environment):
        deadline = time.monotonic() + _READY_S
        while not (folder / "munge.sock").exists():
            assert time.monotonic() < deadline, (folder / "munge.out").read_text()
            time.sleep(0.02)
        yield


@contextmanager
def _daemon(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[None]:
    with open(log, "wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_idle(environment: dict[str, str], nodes: int) -> None:
    deadline = time.monotonic() + _READY_S
    command = ["sinfo", "--noheader", "--Node", "--format=%T"]
    while True:
        states = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if states.stdout.split() == ["idle"] * nodes:
            return
        assert time.monotonic() < deadline, f"the nodes are {states.stdout.split()}; {states.stderr}"
        time.sleep(0.05)
