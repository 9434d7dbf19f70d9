"""Signing in and out, and who is signed in."""

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from blixt import __version__
from blixt.cloud.api.access import COOKIE, allow, check_origin, public
from blixt.cloud.api.context import Cloud, cloud_of
from blixt.cloud.api.fields import Body
from blixt.cloud.errors import BadRequest, Unauthenticated
from blixt.cloud.identity import IssuedToken, Principal
from blixt.cloud.identity.tokens import SESSION_S

router = APIRouter(tags=["login"])


class LoginBody(Body):
    """A token, or a one-time ticket."""

    token: str | None = Field(default=None, max_length=4096)
    ticket: str | None = Field(default=None, max_length=4096)


@router.get("/health")
@public
def health() -> dict[str, Any]:
    """Say that the server is up."""
    return {"status": "ok", "version": __version__}


@router.get("/whoami")
def whoami(caller: Principal = allow("read", "self")) -> dict[str, Any]:
    """Return the caller, the teamspaces they can reach and the server's version."""
    return {
        "user": {"name": caller.user, "is_admin": caller.is_admin, "scope": caller.scope},
        "teamspaces": [{"name": name, "role": role.label} for name, role in sorted(caller.roles.items())],
        "server": {"version": __version__},
    }


@router.post("/login")
@public
def login(
    body: LoginBody, request: Request, response: Response, cloud: Cloud = Depends(cloud_of)
) -> dict[str, Any]:
    """Sign a browser in: sets the session cookie."""
    check_origin(request, required=False)
    session = _session_for(cloud, body)
    principal = cloud.identity.authenticate(session.secret)
    if principal is None:
        raise Unauthenticated("This token no longer works.", "Ask for a new one.")
    cloud.audit.write(principal, "login", "self", name=principal.user)
    response.set_cookie(COOKIE, session.secret, max_age=SESSION_S, httponly=True, samesite="lax", path="/")
    return whoami(principal)


def _session_for(cloud: Cloud, body: LoginBody) -> IssuedToken:
    if (body.token is None) == (body.ticket is None):
        raise BadRequest("Signing in takes a token or a ticket.", 'Send {"token": "..."}.')
    if body.ticket is not None:
        return cloud.identity.tokens.redeem_ticket(body.ticket)
    principal = cloud.identity.authenticate((body.token or "").strip())
    if principal is None or not principal.is_full:
        raise Unauthenticated(
            "This token is unknown, expired, revoked or not a user's.",
            "The first user's token is in the file `token` of the server's data folder.",
        )
    return cloud.identity.open_session(principal)


@router.post("/logout")
def logout(
    response: Response, caller: Principal = allow("read", "self"), cloud: Cloud = Depends(cloud_of)
) -> dict[str, Any]:
    """Sign a browser out: the session ends and the cookie is removed."""
    if caller.token_kind == "session":
        cloud.identity.revoke_token(caller.token_id, actor=caller.actor)
    response.delete_cookie(COOKIE, path="/")
    return {"signed_out": True}


@router.post("/login/ticket")
def create_ticket(
    request: Request, caller: Principal = allow("create", "ticket"), cloud: Cloud = Depends(cloud_of)
) -> dict[str, Any]:
    """Return a one-time link that signs a browser in."""
    ticket = cloud.identity.issue_ticket(caller)
    base = f"{request.url.scheme}://{request.headers.get('host', '')}"
    return {
        "ticket": ticket.secret,
        "url": f"{base}/?ticket={ticket.secret}",
        "expires_at": ticket.expires_at,
    }
