"""Secrets: put a value, read it back (audited); lists never show values."""

from typing import Any

from fastapi import APIRouter, Depends

from blixt.cloud.api.access import allow
from blixt.cloud.api.context import Cloud, cloud_of
from blixt.cloud.api.fields import Body
from blixt.cloud.identity import Principal

router = APIRouter(prefix="/teamspaces/{ts}/secrets", tags=["secrets"])


class ValueBody(Body):
    """A secret's value."""

    value: str


@router.put("/{name}")
def put_secret(
    ts: str,
    name: str,
    body: ValueBody,
    caller: Principal = allow("update", "secret"),
    cloud: Cloud = Depends(cloud_of),
) -> dict[str, Any]:
    """Create a secret or replace its value."""
    return cloud.secrets.put(ts, name, body.value, owner=caller.user, actor=caller.actor).to_json()


@router.get("/{name}/value")
def get_secret_value(
    ts: str, name: str, caller: Principal = allow("reveal", "secret"), cloud: Cloud = Depends(cloud_of)
) -> dict[str, Any]:
    """Return a secret's value; the audit log records it."""
    return {"name": name, "value": cloud.secrets.get(ts, name, actor=caller.actor)}
