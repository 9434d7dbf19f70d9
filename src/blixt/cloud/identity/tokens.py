"""Tokens: high-entropy secrets of which only the hash is kept, with scope, expiry and revocation."""

import hashlib
import secrets as random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from blixt.cloud.db import Database, Session
from blixt.cloud.db.tables import tokens
from blixt.cloud.errors import NotFound, Unauthenticated
from blixt.cloud.identity.audit import append as audit_append

SESSION_S = 30 * 86_400
TICKET_S = 120


@dataclass(frozen=True)
class IssuedToken:
    """A new token. `secret` is shown once and never again."""

    id: str
    secret: str
    expires_at: float | None


@dataclass(frozen=True)
class TokenInfo:
    """What may be shown of a token."""

    id: str
    kind: str
    user: str
    label: str
    teamspace: str | None
    role: str | None
    scope: str | None
    created_at: float
    expires_at: float | None


def digest(secret: str) -> str:
    """Return what is stored of a secret: with 256 random bits a plain hash cannot be guessed back."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class Tokens:
    """Issues, lists and revokes tokens, sessions and one-time tickets.

    Args:
        db: The database.
        changed: Called after a revocation.
        clock: Returns unix seconds.
    """

    def __init__(
        self, db: Database, changed: Callable[[], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._db = db
        self._changed = changed
        self._clock = clock

    def issue(
        self,
        user: str,
        *,
        kind: str = "token",
        label: str = "",
        scope: str | None = None,
        teamspace: str | None = None,
        role: str | None = None,
        expires_s: float | None = None,
        parent: str | None = None,
        actor: str | None = None,
        session: Session | None = None,
    ) -> IssuedToken:
        """Issue a token for `user`.

        A token with `teamspace` reaches only that teamspace, with `role` at most; it works only while the
        user is a member there. A token with `parent` dies with its parent.
        """
        now = self._clock()
        issued = IssuedToken(
            uuid.uuid4().hex,
            "blx_" + random.token_urlsafe(32),
            None if expires_s is None else now + expires_s,
        )
        row: dict[str, Any] = {
            "id": issued.id,
            "hash": digest(issued.secret),
            "kind": kind,
            "user": user,
            "label": label[:256],
            "scope": scope,
            "teamspace": teamspace,
            "role": role,
            "parent": parent,
            "created_at": now,
            "expires_at": issued.expires_at,
        }
        detail = {"id": issued.id, "kind": kind, "scope": scope, "role": role}
        with self._db.joined(session) as s:
            s.execute(tokens.insert().values(**row))
            audit_append(s, actor or user, "create", "token", teamspace or "", label, detail=detail, at=now)
        return issued

    def list_for(self, user: str) -> list[TokenInfo]:
        """Return a user's living tokens and sessions, oldest first; never the secrets."""
        now = self._clock()
        alive = tokens.c.revoked_at.is_(None) & sa.or_(
            tokens.c.expires_at.is_(None), tokens.c.expires_at > now
        )
        columns = [tokens.c[name] for name in TokenInfo.__dataclass_fields__]
        query = (
            sa.select(*columns)
            .where((tokens.c.user == user) & (tokens.c.kind != "ticket") & alive)
            .order_by(tokens.c.created_at, tokens.c.id)
        )
        with self._db.read() as s:
            return [TokenInfo(**row) for row in s.execute(query).mappings()]

    def revoke(
        self, token_id: str, *, user: str | None = None, actor: str = "server", session: Session | None = None
    ) -> None:
        """Revoke a token and everything made from it; revoking twice is no error.

        Args:
            token_id: The token's id.
            user: When given, the token must be this user's.
            actor: Who revokes, for the audit log.
            session: Transaction to join.

        Raises:
            NotFound: When there is no such token.
        """
        with self._db.joined(session) as s:
            row = s.execute(sa.select(tokens).where(tokens.c.id == token_id)).mappings().first()
            if row is None or (user is not None and row["user"] != user):
                raise NotFound(f"There is no token {token_id[:80]!r}.", "List your tokens to see their ids.")
            if row["revoked_at"] is None:
                now = self._clock()
                s.execute(tokens.update().where(tokens.c.id == token_id).values(revoked_at=now))
                detail = {"id": token_id}
                audit_append(
                    s, actor, "delete", "token", row["teamspace"] or "", row["label"], detail=detail, at=now
                )
                self._db.after_commit(self._changed)

    def redeem_ticket(self, secret: str, *, scope: str | None = None) -> IssuedToken:
        """Turn a one-time ticket into a session of its user.

        Raises:
            Unauthenticated: When the ticket is unknown, used, expired or for something else.
        """
        now = self._clock()
        with self._db.write() as s:
            row = s.execute(sa.select(tokens).where(tokens.c.hash == digest(secret))).mappings().first()
            usable = (
                row is not None
                and row["kind"] == "ticket"
                and row["revoked_at"] is None
                and row["expires_at"] > now
                and row["scope"] == scope
            )
            if row is None or not usable:
                raise Unauthenticated(
                    "This sign-in link is unknown, used or older than two minutes.",
                    "Ask for a new one, or sign in with a token.",
                )
            s.execute(tokens.update().where(tokens.c.id == row["id"]).values(revoked_at=now))
            return self.issue(
                row["user"],
                kind="session",
                label="signed in by link",
                scope=scope,
                expires_s=SESSION_S,
                parent=row["parent"],
                session=s,
            )
