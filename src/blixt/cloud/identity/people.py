"""Users, teamspaces, and who is a member of which."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from blixt.cloud.db import Database, Session
from blixt.cloud.db.tables import members, teamspaces, users
from blixt.cloud.errors import Conflict, Invalid, NotFound
from blixt.cloud.identity.audit import append as audit_append
from blixt.cloud.identity.roles import Role
from blixt.cloud.kinds import validate_name


@dataclass(frozen=True)
class Member:
    """A user's place in a teamspace."""

    user: str
    role: Role
    created_at: float


class People:
    """Users, teamspaces and members.

    Args:
        db: The database.
        changed: Called after a change that may alter somebody's rights.
        clock: Returns unix seconds.
    """

    def __init__(
        self, db: Database, changed: Callable[[], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._db = db
        self._changed = changed
        self._clock = clock

    def create_user(
        self, name: str, *, is_admin: bool = False, actor: str = "server", session: Session | None = None
    ) -> str:
        """Create a user.

        Raises:
            Invalid: When the name breaks the rule for names.
            Conflict: When the name is taken.
        """
        validate_name(name, "user name")
        now = self._clock()
        with self._db.joined(session) as s:
            if self.user_exists(name, session=s):
                raise Conflict(f"A user named {name!r} already exists.", "Choose another name.")
            s.execute(users.insert().values(name=name, is_admin=is_admin, created_at=now))
            audit_append(s, actor, "create", "user", "", name, detail={"is_admin": is_admin}, at=now)
        return name

    def user_exists(self, name: str, *, session: Session | None = None) -> bool:
        """Return whether there is a user with this name."""
        with self._db.viewed(session) as s:
            return s.execute(sa.select(users.c.name).where(users.c.name == name)).first() is not None

    def list_users(self) -> list[dict[str, object]]:
        """Return all users in order of creation."""
        with self._db.read() as s:
            rows = s.execute(sa.select(users).order_by(users.c.created_at, users.c.name)).mappings().all()
        return [dict(row) for row in rows]

    def create_teamspace(
        self, name: str, *, owner: str, actor: str = "server", session: Session | None = None
    ) -> str:
        """Create a teamspace with its first owner.

        Raises:
            Invalid: When the name breaks the rule for names.
            Conflict: When the name is taken.
        """
        validate_name(name, "teamspace name")
        now = self._clock()
        with self._db.joined(session) as s:
            if self.teamspace_exists(name, session=s):
                raise Conflict(f"A teamspace named {name!r} already exists.", "Choose another name.")
            s.execute(teamspaces.insert().values(name=name, created_by=owner, created_at=now))
            s.execute(
                members.insert().values(teamspace=name, user=owner, role=Role.OWNER.label, created_at=now)
            )
            audit_append(s, actor, "create", "teamspace", name, name, detail={"owner": owner}, at=now)
            self._db.after_commit(self._changed)
        return name

    def teamspace_exists(self, name: str, *, session: Session | None = None) -> bool:
        """Return whether there is a teamspace with this name."""
        with self._db.viewed(session) as s:
            query = sa.select(teamspaces.c.name).where(teamspaces.c.name == name)
            return s.execute(query).first() is not None

    def members(self, teamspace: str) -> list[Member]:
        """Return a teamspace's members in order of joining."""
        query = (
            sa.select(members)
            .where(members.c.teamspace == teamspace)
            .order_by(members.c.created_at, members.c.user)
        )
        with self._db.read() as s:
            rows = s.execute(query).mappings().all()
        return [Member(row["user"], Role[row["role"].upper()], row["created_at"]) for row in rows]

    def set_member(self, teamspace: str, user: str, role: str, *, actor: str) -> Member:
        """Add a member or change a member's role.

        Raises:
            Invalid: When there is no such role.
            NotFound: When there is no such user.
            Conflict: When the teamspace would be left without an owner.
        """
        if role.upper() not in Role.__members__:
            raise Invalid(f"There is no role {role[:80]!r}.", "Choose owner, member or viewer.")
        chosen, now = Role[role.upper()], self._clock()
        with self._db.write() as s:
            if not self.user_exists(user, session=s):
                raise NotFound(f"There is no user {user[:80]!r}.", "Create the user first.")
            if chosen is not Role.OWNER:
                self._keep_an_owner(s, teamspace, user)
            place = (members.c.teamspace == teamspace) & (members.c.user == user)
            if s.execute(members.update().where(place).values(role=chosen.label)).rowcount == 0:
                s.execute(
                    members.insert().values(teamspace=teamspace, user=user, role=chosen.label, created_at=now)
                )
            audit_append(s, actor, "update", "member", teamspace, user, detail={"role": role}, at=now)
            self._db.after_commit(self._changed)
        return Member(user, chosen, now)

    def remove_member(self, teamspace: str, user: str, *, actor: str) -> None:
        """Remove a member.

        Raises:
            NotFound: When the user is no member.
            Conflict: When the teamspace would be left without an owner.
        """
        with self._db.write() as s:
            self._keep_an_owner(s, teamspace, user)
            place = (members.c.teamspace == teamspace) & (members.c.user == user)
            if s.execute(members.delete().where(place)).rowcount == 0:
                raise NotFound(f"{user[:80]!r} is not a member of {teamspace!r}.", "List the members.")
            audit_append(s, actor, "delete", "member", teamspace, user, at=self._clock())
            self._db.after_commit(self._changed)

    def _keep_an_owner(self, s: Session, teamspace: str, leaving: str) -> None:
        owners = s.scalars(
            sa.select(members.c.user).where(
                (members.c.teamspace == teamspace) & (members.c.role == Role.OWNER.label)
            )
        ).all()
        if list(owners) == [leaving]:
            raise Conflict(
                f"{leaving!r} is the only owner of {teamspace!r}.", "Make someone else an owner first."
            )
