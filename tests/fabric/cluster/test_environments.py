"""Who started this process: each cluster's variables, in the order in which they count."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.fabric.plugins.environments import SLURMEnvironment as LightningSlurm

from blixt.fabric import ConfigError, World
from blixt.fabric.cluster import (
    BlixtEnvironment,
    KubeflowEnvironment,
    KubernetesIndexEnvironment,
    LocalEnvironment,
    LSFEnvironment,
    MPIEnvironment,
    SlurmEnvironment,
    TorchrunEnvironment,
    detect_environment,
    detect_world,
)
from blixt.fabric.cluster.kubernetes import first_pod
from blixt.fabric.cluster.slurm import tasks_per_node

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1"}
TORCHRUN |= {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
SLURM = {"SLURM_JOB_ID": "123456", "SLURM_STEP_ID": "2", "SLURM_NTASKS": "4", "SLURM_PROCID": "3"}
SLURM |= {"SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"}
SLURM |= {"SLURM_STEP_NODELIST": "localhost,gpu[1-2]", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "train"}
OPENMPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
OPENMPI |= {"OMPI_COMM_WORLD_LOCAL_SIZE": "2", "MASTER_ADDR": "host1", "MASTER_PORT": "4000"}
HYDRA = {"PMI_SIZE": "2", "PMI_RANK": "1", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
KUBEFLOW = {"KUBERNETES_SERVICE_HOST": "10.1.0.1", "MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456"}
KUBEFLOW |= {"WORLD_SIZE": "3", "RANK": "2"}
INDEXED = {"KUBERNETES_SERVICE_HOST": "10.1.0.1", "JOB_COMPLETION_INDEX": "2"}
PREFIXES = ("SLURM_", "OMPI_", "PMI_", "MPI_", "JSM_", "LSB_", "KUBERNETES_", "TORCHELASTIC_", "MASTER_")
NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "BLIXT_CLUSTER")


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    saved = dict(os.environ)
    for name in saved:
        if name.startswith(PREFIXES) or name in NAMES or name == "JOB_COMPLETION_INDEX":
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(saved)


def inside(*variables: dict[str, str]) -> Any:
    for each in variables:
        os.environ.update(each)
    return detect_environment()


def lsf(folder: Path) -> dict[str, str]:
    hosts = folder / "hosts"
    hosts.write_text(f"launcher\nother\nother\n{socket.gethostname()}\n{socket.gethostname()}\n")
    ranks = {"JSM_NAMESPACE_SIZE": "4", "JSM_NAMESPACE_RANK": "3", "JSM_NAMESPACE_LOCAL_RANK": "1"}
    return {"LSB_JOBID": "54321", "LSB_DJOB_RANKFILE": str(hosts), **ranks}


def test_nobody_started_a_process_that_stands_alone() -> None:
    assert detect_environment() is None
    assert detect_world() is None


@pytest.mark.parametrize(
    ("variables", "kind", "address"),
    [
        (TORCHRUN, TorchrunEnvironment, ("10.0.0.1", 29500)),
        ({**TORCHRUN, "BLIXT_JOB": "train"}, BlixtEnvironment, ("10.0.0.1", 29500)),
        (SLURM, SlurmEnvironment, ("localhost", 15000 + 3456 + 2)),
        (OPENMPI, MPIEnvironment, ("host1", 4000)),
    ],
)
def test_each_cluster_is_recognised_with_its_ranks_and_address(
    variables: dict[str, str], kind: type[Any], address: tuple[str, int]
) -> None:
    found = inside(variables)
    assert type(found) is kind
    world = found.world()
    assert (world.rank, world.local_rank, world.world_size) == (3, 1, 4)
    assert (world.local_world_size, world.node_rank) == (2, 1)
    assert (found.main_address, found.main_port) == address
    assert found.creates_processes_externally


def test_lsf_reads_its_machines_from_the_rank_file(tmp_path: Path) -> None:
    found = inside(lsf(tmp_path))
    assert found.world() == World(3, 1, 4, 2, 1, started_by="lsf")
    assert (found.main_address, found.main_port) == ("other", 10321)
    (tmp_path / "hosts").write_text("launcher\nother\n")
    with pytest.raises(ConfigError, match="does not name this machine"):
        LSFEnvironment()


def test_kubeflow_has_one_process_a_pod() -> None:
    found = inside(KUBEFLOW)
    assert type(found) is KubeflowEnvironment
    assert found.world() == World(2, 0, 3, 1, 2, started_by="kubeflow")


def test_hydra_needs_no_python_package_and_no_address_on_one_machine() -> None:
    found = inside(HYDRA)
    assert type(found) is MPIEnvironment
    assert found.world() == World(1, 1, 2, 2, 0, started_by="mpi")


def test_the_index_of_a_kubernetes_job_is_the_machine_and_its_processes_are_made_here() -> None:
    found = inside(INDEXED)
    assert type(found) is KubernetesIndexEnvironment
    assert found.world(2, 3) is None
    assert found.node_rank() == 2
    assert first_pod("train-2.svc.ns.svc.cluster.local", 2) == "train-0.svc.ns.svc.cluster.local"
    with pytest.raises(ConfigError, match="more pods"):
        found.validate_settings(1, 2)
    with pytest.raises(ConfigError, match="does not end with its index"):
        first_pod("node-17", 2)


def test_torchrun_counts_before_slurm_and_slurm_before_mpi() -> None:
    assert type(inside(HYDRA, SLURM)) is SlurmEnvironment
    assert type(inside(TORCHRUN)) is TorchrunEnvironment


def test_a_process_that_published_its_place_stays_in_its_cluster() -> None:
    found = inside(SLURM)
    found.publish(found.world())
    assert (os.environ["RANK"], os.environ["MASTER_ADDR"]) == ("3", "localhost")
    assert type(detect_environment()) is SlurmEnvironment


@pytest.mark.parametrize(
    "change",
    [{"SLURM_JOB_NAME": "bash"}, {"SLURM_JOB_NAME": "interactive"}, {"SLURM_NTASKS": None}],
)
def test_shells_in_slurm_are_no_tasks(change: dict[str, str | None]) -> None:
    os.environ.update({k: v for k, v in {**SLURM, **change}.items() if v is not None})
    assert detect_environment() is None


def test_a_batch_script_without_srun_is_told_so() -> None:
    variables = {name: value for name, value in SLURM.items() if name != "SLURM_STEP_ID"}
    with pytest.warns(UserWarning, match="srun did not start this process"):
        assert inside(variables) is None


@pytest.mark.parametrize(
    "nodes", ["host0,host1", "host0 host1 host3", "host[5-9]", "host[5-9,12],x1", "gpu-a[07]", "n1"]
)
def test_the_first_machine_of_a_list_is_lightnings(nodes: str) -> None:
    ours = SlurmEnvironment.resolve_root_node_address(nodes)
    assert ours == LightningSlurm.resolve_root_node_address(nodes)


def test_slurms_tasks_must_be_spread_evenly_and_fit_devices() -> None:
    found = inside(SLURM)
    found.validate_settings(2, 2)
    with pytest.raises(ConfigError, match=r"devices=3.*2 task\(s\) on each machine.*ntasks-per-node=3"):
        found.validate_settings(3, 2)
    with pytest.raises(ConfigError, match=r"num_nodes=1.*2 machine\(s\)"):
        found.validate_settings(2, 1)
    os.environ["SLURM_STEP_TASKS_PER_NODE"] = "2(x2),1"
    assert tasks_per_node() == [2, 2, 1]
    with pytest.raises(ConfigError, match="2, 2, 1 tasks"):
        SlurmEnvironment()


def test_requeueing_is_a_choice_with_a_signal_of_ones_own() -> None:
    os.environ.update(SLURM)
    assert SlurmEnvironment().requeue_signal is signal.SIGUSR1
    assert SlurmEnvironment(requeue_signal=signal.SIGUSR2).requeue_signal is signal.SIGUSR2
    assert SlurmEnvironment(auto_requeue=False).requeue_signal is None


@pytest.mark.parametrize(
    ("array", "expected"),
    [({}, "123456"), ({"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "4"}, "77_4")],
)
def test_a_job_and_a_task_of_an_array_are_requeued_by_their_names(
    array: dict[str, str], expected: str, tmp_path: Path
) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\n')
    scontrol.chmod(0o755)
    os.environ.update(SLURM | array, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert SlurmEnvironment().requeue() == expected
    assert (tmp_path / "said").read_text().split() == ["requeue", expected]
    scontrol.write_text("#!/bin/sh\necho no such job >&2\nexit 1\n")
    with pytest.warns(UserWarning, match=r"could not be requeued: `scontrol requeue .*no such job"):
        assert SlurmEnvironment().requeue() is None


def test_machines_started_by_hand_need_an_address() -> None:
    local = LocalEnvironment()
    assert local.world(2, 1) is None
    with pytest.raises(ConfigError, match="need MASTER_ADDR"):
        local.validate_settings(2, 2)
    os.environ.update(MASTER_ADDR="10.0.0.1", MASTER_PORT="4711", NODE_RANK="2")
    with pytest.raises(ConfigError, match="machines count from 0 to 1"):
        LocalEnvironment().validate_settings(2, 2)
    os.environ.update(NODE_RANK="1", LOCAL_RANK="1")
    assert LocalEnvironment().world(2, 2) == World(3, 1, 4, 2, 1, started_by="LOCAL_RANK")


def test_variables_that_cannot_be_are_named() -> None:
    os.environ.update(SLURM, SLURM_PROCID="x")
    with pytest.raises(ConfigError, match=r"SLURM_PROCID='x'.*must be a number"):
        SlurmEnvironment().global_rank()
    os.environ.update(SLURM, SLURM_PROCID="9")
    with pytest.raises(ConfigError, match="ranks go from 0 to 3"):
        SlurmEnvironment().world()


class Ours(TorchrunEnvironment):
    """A cluster of one's own."""

    name = "ours"


def test_a_cluster_of_ones_own_is_a_plugin() -> None:
    from blixt.fabric import Fabric

    os.environ.update(TORCHRUN)
    fabric = Fabric(accelerator="cpu", plugins=[Ours()])
    assert isinstance(fabric.environment, Ours)
    assert (fabric.world_size, fabric.global_rank, fabric.node_rank) == (4, 3, 1)
