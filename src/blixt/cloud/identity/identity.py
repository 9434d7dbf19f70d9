"""Authentication and authorisation in front of every request."""

import threading
import time
from collections.abc import Callable

import sqlalchemy as sa

from blixt.cloud.db import Database, Session
from blixt.cloud.db.tables import members, teamspaces, tokens, users
from blixt.cloud.errors import Forbidden, NotFound
from blixt.cloud.identity.people import People
from blixt.cloud.identity.principal import Principal
from blixt.cloud.identity.roles import ADMIN_RULES, SELF_RULES, USER_RULES, Role, needed_role
from blixt.cloud.identity.tokens import SESSION_S, TICKET_S, IssuedToken, Tokens, digest

CACHE_S = 5.0
CACHE_SIZE = 4096


class Identity:
    """Says who a token belongs to and what they may do.

    Answers are cached for seconds; a revocation or a change of members in this process empties the cache at
    once, one in another process takes effect when the cached answer is old.

    Args:
        db: The database.
        clock: Returns unix seconds.

    Attributes:
        people: Users, teamspaces and members.
        tokens: Tokens, sessions and tickets.
    """

    def __init__(self, db: Database, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._clock = clock
        self._cache: dict[str, tuple[Principal, float]] = {}
        self._lock = threading.Lock()
        self._generation = 0
        self.people = People(db, self.forget, clock)
        self.tokens = Tokens(db, self.forget, clock)

    def cached(self, token: str) -> Principal | None:
        """Return a fresh cached answer without touching the database, None when there is none."""
        found = self._cache.get(digest(token))
        return found[0] if found is not None and found[1] > self._clock() else None

    def authenticate(self, token: str) -> Principal | None:
        """Return whose token this is, None when it is unknown, revoked or expired."""
        found = self.cached(token)
        if found is not None:
            return found
        generation = self._generation
        key, now = digest(token), self._clock()
        with self._db.read() as s:
            answer = _look_up(s, key, now)
        if answer is None:
            return None
        principal, expires_at = answer
        with self._lock:
            # What was read before a revocation must not outlive it.
            if generation == self._generation:
                if len(self._cache) >= CACHE_SIZE:
                    self._cache.clear()
                self._cache[key] = (principal, min(now + CACHE_S, expires_at))
        return principal

    def forget(self) -> None:
        """Empty the cache: somebody's rights may have changed."""
        with self._lock:
            self._generation += 1
            self._cache.clear()

    def authorize(self, principal: Principal, action: str, kind: str, teamspace: str | None = None) -> None:
        """Return when the caller may do `action` to `kind`, in `teamspace` or (None) on the server.

        Raises:
            NotFound: When the teamspace is not one the caller can see.
            Forbidden: When the caller's role does not allow it.
        """
        if teamspace is None:
            self._authorize_outside(principal, action, kind)
            return
        role = principal.roles.get(teamspace)
        if role is None:
            raise NotFound(f"There is no teamspace {teamspace[:80]!r}, or you are not a member of it.")
        needed = needed_role(action, kind)
        if needed is None or role < needed:
            who = f" ({needed.label} or above may)" if needed is not None else ""
            raise Forbidden(
                f"As {role.label} of {teamspace!r} you may not {action} a {kind}{who}.",
                "Ask an owner of the teamspace to do it or to change your role.",
            )

    def _authorize_outside(self, principal: Principal, action: str, kind: str) -> None:
        right = (action, kind)
        if (
            right in SELF_RULES
            or (right in USER_RULES and principal.is_full)
            or (right in ADMIN_RULES and principal.is_admin)
        ):
            return
        if not principal.is_full:
            raise Forbidden(
                f"The token of {principal.scope} may not {action} a {kind}.",
                "Use a token of your own; a workload's token reaches only its teamspace.",
            )
        raise Forbidden(
            f"Only an administrator of this server may {action} a {kind}.", "Ask an administrator."
        )

    # -- shortcuts -----------------------------------------------------------------------------------------

    def create_user(self, name: str, *, is_admin: bool = False, actor: str = "server") -> IssuedToken:
        """Create a user with a first token."""
        with self._db.write() as s:
            self.people.create_user(name, is_admin=is_admin, actor=actor, session=s)
            return self.tokens.issue(name, label="first token", actor=actor, session=s)

    def issue_token(
        self,
        user: str,
        *,
        scope: str | None = None,
        teamspace: str | None = None,
        role: str | None = None,
        expires_s: float | None = None,
        label: str = "",
        actor: str | None = None,
        session: Session | None = None,
    ) -> IssuedToken:
        """Issue a token; with `teamspace` it is a workload's, reaching only there with `role` at most."""
        return self.tokens.issue(
            user,
            kind="token" if teamspace is None else "workload",
            scope=scope if teamspace is None else scope or f"teamspace {teamspace}",
            teamspace=teamspace,
            role=role,
            expires_s=expires_s,
            label=label,
            actor=actor,
            session=session,
        )

    def revoke_token(self, token_id: str, *, actor: str = "server", session: Session | None = None) -> None:
        """Revoke a token and everything made from it."""
        self.tokens.revoke(token_id, actor=actor, session=session)

    def open_session(self, principal: Principal) -> IssuedToken:
        """Sign a user in: a session that dies with the token it was made from."""
        return self.tokens.issue(
            principal.user,
            kind="session",
            label="signed in by token",
            expires_s=SESSION_S,
            parent=principal.token_id,
        )

    def issue_ticket(self, principal: Principal, *, scope: str | None = None) -> IssuedToken:
        """Issue a one-time ticket, good for two minutes; `scope` says for what when not for signing in."""
        return self.tokens.issue(
            principal.user,
            kind="ticket",
            label="sign-in link",
            scope=scope,
            expires_s=TICKET_S,
            parent=principal.token_id,
        )


def _look_up(s: Session, key: str, now: float) -> tuple[Principal, float] | None:
    """Return the owner of a living token and when it expires."""
    row = s.execute(sa.select(tokens).where(tokens.c.hash == key)).mappings().first()
    if row is None or row["kind"] == "ticket":
        return None
    expires_at = _alive_until(s, dict(row), now)
    if expires_at is None:
        return None
    user = s.execute(sa.select(users).where(users.c.name == row["user"])).mappings().one()
    scoped_to: str | None = row["teamspace"]
    full = row["scope"] is None and scoped_to is None
    is_admin = bool(user["is_admin"])
    roles = _roles(s, row["user"], is_admin)
    if scoped_to is not None:
        ceiling = Role[row["role"].upper()] if row["role"] else Role.MEMBER
        own = roles.get(scoped_to)
        roles = {} if own is None else {scoped_to: min(own, ceiling)}
    principal = Principal(
        user=row["user"],
        is_admin=is_admin and full,
        roles=roles,
        token_id=row["id"],
        token_kind=row["kind"],
        scope=row["scope"],
    )
    return principal, expires_at


def _alive_until(s: Session, row: dict[str, object] | None, now: float) -> float | None:
    """Return when a token or any token it was made from expires; None when one is dead."""
    until = float("inf")
    while row is not None:
        expires_at = row["expires_at"]
        if row["revoked_at"] is not None:
            return None
        if isinstance(expires_at, float):
            until = min(until, expires_at)
        if row["parent"] is None:
            break
        parent = s.execute(sa.select(tokens).where(tokens.c.id == row["parent"])).mappings().first()
        if parent is None:
            return None
        row = dict(parent)
    return until if until > now else None


def _roles(s: Session, user: str, is_admin: bool) -> dict[str, Role]:
    if is_admin:
        # Administrators own the machine and its disk, so they are owners of every teamspace.
        return dict.fromkeys(s.scalars(sa.select(teamspaces.c.name)), Role.OWNER)
    rows = s.execute(sa.select(members.c.teamspace, members.c.role).where(members.c.user == user))
    return {row.teamspace: Role[row.role.upper()] for row in rows}
