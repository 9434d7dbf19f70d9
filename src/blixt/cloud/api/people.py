"""Teamspaces, members, users, tokens and the audit log."""

from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from blixt.cloud.api.access import allow
from blixt.cloud.api.context import Cloud, cloud_of
from blixt.cloud.api.fields import Body
from blixt.cloud.errors import Forbidden
from blixt.cloud.identity import Member, Principal

router = APIRouter(tags=["people"])


class NameBody(Body):
    """A new teamspace or user."""

    name: str


class RoleBody(Body):
    """A member's role."""

    role: Literal["owner", "member", "viewer"]


class TokenBody(Body):
    """A new token of the caller; with `teamspace` it reaches only there."""

    label: str = Field(default="", max_length=256)
    expires_s: float | None = Field(default=None, gt=0, le=3.2e8, allow_inf_nan=False)
    teamspace: str | None = None
    role: Literal["owner", "member", "viewer"] | None = None


@router.get("/teamspaces")
def list_teamspaces(caller: Principal = allow("read", "teamspaces")) -> dict[str, Any]:
    """List the teamspaces the caller can reach."""
    return {"items": [{"name": name, "role": role.label} for name, role in sorted(caller.roles.items())]}


@router.post("/teamspaces", status_code=201)
def create_teamspace(
    body: NameBody, caller: Principal = allow("create", "teamspace"), cloud: Cloud = Depends(cloud_of)
) -> dict[str, Any]:
    """Create a teamspace; the caller becomes its owner."""
    cloud.identity.people.create_teamspace(body.name, owner=caller.user, actor=caller.actor)
    return {"name": body.name, "role": "owner"}


@router.get("/teamspaces/{ts}/members")
def list_members(
    ts: str, caller: Principal = allow("read", "member"), cloud: Cloud = Depends(cloud_of)
) -> dict[str, Any]:
    """List a teamspace's members."""
    return {"items": [_member(member) for member in cloud.identity.people.members(ts)]}


@router.put("/teamspaces/{ts}/members/{name}")
def set_member(
    ts: str,
    name: str,
    body: RoleBody,
    caller: Principal = allow("update", "member"),
    cloud: Cloud = Depends(cloud_of),
) -> dict[str, Any]:
    """Add a user to a teamspace or change a member's role."""
    return _member(cloud.identity.people.set_member(ts, name, body.role, actor=caller.actor))


@router.delete("/teamspaces/{ts}/members/{name}")
def remove_member(
    ts: str, name: str, caller: Principal = allow("delete", "member"), cloud: Cloud = Depends(cloud_of)
) -> dict[str, Any]:
    """Remove a member from a teamspace."""
    cloud.identity.people.remove_member(ts, name, actor=caller.actor)
    return {"removed": name}


@router.get("/users")
def list_users(caller: Principal = allow("read", "user"), cloud: Cloud = Depends(cloud_of)) -> dict[str, Any]:
    """List all users of this server."""
    return {"items": cloud.identity.people.list_users()}


@router.post("/users", status_code=201)
def create_user(
    body: NameBody, caller: Principal = allow("create", "user"), cloud: Cloud = Depends(cloud_of)
) -> dict[str, Any]:
    """Create a user; the answer holds the user's token, shown only now."""
    token = cloud.identity.create_user(body.name, actor=caller.actor)
    return {"name": body.name, "token": token.secret}


@router.get("/tokens")
def list_tokens(
    caller: Principal = allow("read", "token"), cloud: Cloud = Depends(cloud_of)
) -> dict[str, Any]:
    """List the caller's tokens and sessions, never the secrets."""
    if not caller.is_full:
        raise Forbidden(f"The token of {caller.scope} may not list tokens.", "Use a token of your own.")
    found = cloud.identity.tokens.list_for(caller.user)
    return {"items": [{**asdict(token), "current": token.id == caller.token_id} for token in found]}


@router.post("/tokens", status_code=201)
def create_token(
    body: TokenBody, caller: Principal = allow("create", "token"), cloud: Cloud = Depends(cloud_of)
) -> dict[str, Any]:
    """Create a token for the caller; the secret is shown only now."""
    if body.teamspace is not None:
        cloud.identity.authorize(caller, "read", "teamspace", body.teamspace)
    token = cloud.identity.issue_token(
        caller.user,
        label=body.label,
        expires_s=body.expires_s,
        teamspace=body.teamspace,
        role=body.role,
        actor=caller.actor,
    )
    return {"id": token.id, "token": token.secret, "label": body.label, "expires_at": token.expires_at}


@router.delete("/tokens/{token_id}")
def revoke_token(
    token_id: str, caller: Principal = allow("delete", "token"), cloud: Cloud = Depends(cloud_of)
) -> dict[str, Any]:
    """Revoke one of the caller's tokens and every session made from it."""
    cloud.identity.tokens.revoke(token_id, user=caller.user, actor=caller.actor)
    return {"revoked": token_id}


@router.get("/teamspaces/{ts}/audit")
def list_audit(
    ts: str,
    limit: int = Query(default=100, ge=1, le=1000),
    before: int | None = Query(default=None, ge=1, le=2**62),
    caller: Principal = allow("read", "audit"),
    cloud: Cloud = Depends(cloud_of),
) -> dict[str, Any]:
    """List a teamspace's newest audit entries, newest first."""
    return {"items": [entry.to_json() for entry in cloud.audit.list(ts, limit, before)]}


@router.get("/audit/verify")
def verify_audit(
    caller: Principal = allow("verify", "audit"), cloud: Cloud = Depends(cloud_of)
) -> dict[str, Any]:
    """Check that no audit entry was changed or removed."""
    return asdict(cloud.audit.verify())


def _member(member: Member) -> dict[str, Any]:
    return {"user": member.user, "role": member.role.label, "created_at": member.created_at}
