"""Machine types, bill and ledger."""

import os
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from blixt.cloud.api.access import allow
from blixt.cloud.api.context import Cloud, cloud_of
from blixt.cloud.errors import Invalid
from blixt.cloud.identity import Principal
from blixt.cloud.money import Machine

router = APIRouter(tags=["money"])
Moment = Annotated[float | None, Query(ge=0, le=1e11, allow_inf_nan=False)]


@router.get("/machines")
def list_machines(
    caller: Principal = allow("read", "machine"), cloud: Cloud = Depends(cloud_of)
) -> dict[str, Any]:
    """List machine types with prices; `available` says whether this server's own machine is large enough."""
    cpus, memory_gb = os.cpu_count() or 1, _memory_gb()
    return {
        "items": [
            {**machine.to_json(), "available": _fits(machine, cpus, memory_gb)}
            for machine in cloud.money.machines().values()
        ],
        "problem": cloud.money.prices.problem,
    }


@router.get("/teamspaces/{ts}/bill")
def get_bill(
    ts: str,
    since: Moment = None,
    until: Moment = None,
    caller: Principal = allow("read", "bill"),
    cloud: Cloud = Depends(cloud_of),
) -> dict[str, Any]:
    """Return what ran between two moments and what it costs, what still runs included."""
    if since is not None and until is not None and since > until:
        raise Invalid("query: since is later than until.", "Swap them.")
    return cloud.money.bill(ts, since, until).to_json()


@router.get("/teamspaces/{ts}/ledger")
def get_ledger(
    ts: str,
    limit: int = Query(default=100, ge=1, le=1000),
    caller: Principal = allow("read", "ledger"),
    cloud: Cloud = Depends(cloud_of),
) -> dict[str, Any]:
    """Return the newest entries of the teamspace's account."""
    return {"items": [entry.to_json() for entry in cloud.money.ledger(ts, limit)]}


def _fits(machine: Machine, cpus: int, memory_gb: float) -> bool:
    return machine.cpus <= cpus and machine.memory_gb <= memory_gb and machine.gpus == 0


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
