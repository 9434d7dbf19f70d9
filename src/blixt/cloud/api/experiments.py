"""Runs of experiments and their metrics."""

import math
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BeforeValidator, Field

from blixt.cloud.api.access import allow
from blixt.cloud.api.context import Cloud, cloud_of
from blixt.cloud.api.fields import Body, Int64, JsonObject, RunId
from blixt.cloud.identity import Principal
from blixt.cloud.registry import MetricRow

router = APIRouter(prefix="/teamspaces/{ts}/experiments/{name}/runs", tags=["experiments"])


class RunBody(Body):
    """A new run, or the one there is with this id."""

    id: RunId | None = None
    name: str | None = Field(default=None, min_length=1, max_length=128)
    params: JsonObject = Field(default_factory=dict)
    job: str | None = Field(default=None, max_length=128)


class RunPatch(Body):
    """A run's new state, or more parameters."""

    state: Literal["running", "succeeded", "failed", "stopped"] | None = None
    params: JsonObject = Field(default_factory=dict)


def _number(value: object) -> object:
    if value in ("nan", "inf", "-inf"):
        return float(str(value))
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**1000:
        return math.copysign(math.inf, value)
    return value


class RowBody(Body):
    """The metrics of one step; NaN and infinities as "nan", "inf", "-inf"."""

    step: Int64
    time: float = Field(ge=0, le=1e11)
    values: dict[
        Annotated[str, Field(min_length=1, max_length=256)], Annotated[float, BeforeValidator(_number)]
    ] = Field(max_length=1000)


class MetricsBody(Body):
    """A batch of metrics."""

    seq: int = Field(ge=1, le=2**62)
    rows: list[RowBody] = Field(max_length=10_000)


@router.post("", status_code=201)
def create_run(
    ts: str,
    name: str,
    body: RunBody,
    caller: Principal = allow("create", "run"),
    cloud: Cloud = Depends(cloud_of),
) -> dict[str, Any]:
    """Create a run (and the experiment when there is none); the same id again gives the same run."""
    return cloud.registry.experiments.create_run(
        ts,
        name,
        owner=caller.user,
        actor=caller.actor,
        run_id=body.id,
        name=body.name,
        params=body.params,
        job=body.job,
    ).to_json()


@router.get("")
def list_runs(
    ts: str, name: str, caller: Principal = allow("read", "run"), cloud: Cloud = Depends(cloud_of)
) -> dict[str, Any]:
    """List an experiment's runs, newest first."""
    return {"items": [run.to_json() for run in cloud.registry.experiments.runs(ts, name)]}


@router.get("/{run_id}")
def get_run(
    ts: str,
    name: str,
    run_id: str,
    caller: Principal = allow("read", "run"),
    cloud: Cloud = Depends(cloud_of),
) -> dict[str, Any]:
    """Return one run."""
    return cloud.registry.experiments.run(ts, name, run_id).to_json()


@router.patch("/{run_id}")
def update_run(
    ts: str,
    name: str,
    run_id: str,
    body: RunPatch,
    caller: Principal = allow("update", "run"),
    cloud: Cloud = Depends(cloud_of),
) -> dict[str, Any]:
    """Change a run's state or add parameters."""
    return cloud.registry.experiments.update_run(
        ts, name, run_id, actor=caller.actor, state=body.state, params=body.params
    ).to_json()


@router.post("/{run_id}/metrics")
def append_metrics(
    ts: str,
    name: str,
    run_id: str,
    body: MetricsBody,
    caller: Principal = allow("update", "run"),
    cloud: Cloud = Depends(cloud_of),
) -> dict[str, Any]:
    """Store a batch of metrics once; a repeated batch is a success, a gap is 409 with `expected_seq`."""
    rows = (MetricRow(row.step, row.time, row.values) for row in body.rows)
    return {"seq": cloud.registry.experiments.append_metrics(ts, name, run_id, body.seq, rows)}


@router.get("/{run_id}/metrics")
def read_metrics(
    ts: str,
    name: str,
    run_id: str,
    names: list[str] = Query(default_factory=list),
    since_step: int | None = Query(default=None, ge=-(2**63), le=2**63 - 1),
    max_points: int = Query(default=1000, ge=1, le=100_000),
    caller: Principal = allow("read", "run"),
    cloud: Cloud = Depends(cloud_of),
) -> dict[str, Any]:
    """Return curves by name, thinned to `max_points` each so that peaks and dips stay."""
    wanted = [part for text in names for part in text.split(",") if part]
    found = cloud.registry.experiments.read_metrics(
        ts, name, run_id, names=wanted or None, since_step=since_step, max_points=max_points
    )
    return {metric: series.to_json() for metric, series in found.items()}
