"""The objects that the tests and the screenshots look at."""

import io
import tarfile

from tests.console.cloud import WORKLOADS, Cloud


def source(cloud: Cloud) -> str:
    """Upload the workloads' files; return the blob's id."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for file in sorted(WORKLOADS.glob("*.py")):
            archive.add(file, file.name)
    answer = cloud.http.post(cloud.path("blobs"), content=packed.getvalue())
    answer.raise_for_status()
    return str(answer.json()["id"])


def train_job(
    cloud: Cloud, name: str, steps: int, pause_s: float, lr: float, experiment: str, **spec: object
) -> None:
    """A Job that logs and reports metrics."""
    command = f"python trainer.py {steps} {pause_s:g} {lr:g}"
    cloud.create("jobs", name, command=command, experiment=experiment, source=source(cloud), **spec)


def parrot(cloud: Cloud, name: str, **spec: object) -> None:
    """A Deployment that speaks the OpenAI API."""
    cloud.create("deployments", name, command="python parrot.py", source=source(cloud), **spec)


def populate(cloud: Cloud) -> None:
    """Something of every kind: a finished Job with its Model, a Studio, a Deployment, a budget."""
    cloud.create("budgets", "teamspace", limit_uc=25_000_000, period="month", applies_to="teamspace")
    train_job(cloud, "first", 40, 0.0, 0.001, "pretrain", model="tiny-gpt")
    cloud.create("studios", "notebook", machine="cpu-1", desired="running")
    parrot(cloud, "parrot", min_replicas=0, idle_timeout_s=600)
    cloud.wait_for_state("jobs", "first", "succeeded")
    cloud.wait_for_state("studios", "notebook", "running")
