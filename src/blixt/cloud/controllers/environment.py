"""What a workload finds in its environment: pure functions from objects to variables."""

from collections.abc import Mapping
from dataclasses import dataclass

from blixt.cloud.money import Machine
from blixt.cloud.objects import Object


@dataclass(frozen=True)
class Rank:
    """One process of a job's gang."""

    rank: int
    local_rank: int
    node: int


def ranks(machines: int, processes: int) -> list[list[Rank]]:
    """The processes of each machine, numbered as torchrun numbers them.

    >>> [[rank.rank for rank in machine] for machine in ranks(2, 2)]
    [[0, 1], [2, 3]]
    """
    return [
        [Rank(node * processes + local, local, node) for local in range(processes)]
        for node in range(machines)
    ]


def secret_variable(name: str) -> str:
    """The variable a secret arrives in.

    >>> secret_variable("hf-token")
    'HF_TOKEN'
    """
    return name.upper().replace("-", "_")


def threads(cpus: float, processes: int) -> int:
    """How many threads each process should compute with: more than its share of cores would be throttled.

    >>> threads(4, 2), threads(1, 2), threads(0.5, 1)
    (2, 1, 1)
    """
    return max(1, int(cpus) // processes)


def common(
    obj: Object, *, url: str, token: str, machine: Machine, secrets: Mapping[str, str]
) -> dict[str, str]:
    """What every workload finds: the cloud's address and key, who it is, its own env and secrets."""
    return {
        "OMP_NUM_THREADS": str(threads(machine.cpus, obj.spec.get("processes", 1))),
        # Threads that spin while they wait take the cores that their neighbours, and they themselves, need.
        "OMP_WAIT_POLICY": "PASSIVE",
        **obj.spec.get("env", {}),
        **{secret_variable(name): value for name, value in secrets.items()},
        "BLIXT_URL": url,
        "BLIXT_TOKEN": token,
        "BLIXT_TEAMSPACE": obj.teamspace,
        "BLIXT_KIND": obj.kind,
        "BLIXT_NAME": obj.name,
        "BLIXT_UID": obj.uid,
        "BLIXT_MACHINE": machine.name,
        **({"BLIXT_DEPLOYMENT": obj.name} if obj.kind == "deployment" else {}),
        **(_job(obj) if obj.kind == "job" else {}),
    }


def gang(
    rank: Rank, *, machines: int, processes: int, master_port: int, attempt: int, master: str = "127.0.0.1"
) -> dict[str, str]:
    """What torchrun would set for this process."""
    return {
        "RANK": str(rank.rank),
        "LOCAL_RANK": str(rank.local_rank),
        "WORLD_SIZE": str(machines * processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "NODE_RANK": str(rank.node),
        "GROUP_RANK": str(rank.node),
        "MASTER_ADDR": master,
        "MASTER_PORT": str(master_port),
        "BLIXT_ATTEMPT": str(attempt),
    }


def model_out(attempt: int) -> str:
    """Where a job leaves its model, relative to home; each attempt begins with an empty folder."""
    return f".blixt/model-out/{attempt}"


def _job(obj: Object) -> dict[str, str]:
    return {
        "BLIXT_JOB": obj.name,
        "BLIXT_EXPERIMENT": obj.spec.get("experiment") or obj.name,
        "BLIXT_RUN": obj.name,
    }
