"""The change log: every change of an object, numbered in the order of the commits."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal

import sqlalchemy as sa

from blixt.cloud.db import Database, Session
from blixt.cloud.db.tables import changes
from blixt.cloud.errors import Gone
from blixt.cloud.objects.object import Change, Object, from_row, to_row
from blixt.cloud.objects.watch import Subscription, Watchers

ChangeType = Literal["created", "updated", "deleted"]
KEEP_CHANGES = 100_000
_PRUNE_EVERY = 1000


class ChangeLog:
    """Reading and watching the log; the store, which writes it, builds on this.

    Args:
        db: The database.
    """

    def __init__(self, db: Database) -> None:
        self.db = db
        self._watchers = Watchers()

    def last_seq(self, *, session: Session | None = None) -> int:
        """Return the sequence number of the newest change, 0 when there is none."""
        with self.db.viewed(session) as s:
            return newest_seq(s)

    def changes(
        self,
        since: int,
        limit: int = 500,
        *,
        kind: str | None = None,
        teamspaces: Iterable[str] | None = None,
        session: Session | None = None,
    ) -> Sequence[Change]:
        """Return changes after `since`, oldest first, optionally of one kind or some teamspaces.

        Raises:
            Gone: When changes after `since` were already dropped from the log.
        """
        with self.db.viewed(session) as s:
            return read_changes(s, since, limit, kind, teamspaces)

    def subscribe(self) -> AbstractAsyncContextManager[Subscription]:
        """Return an async context manager giving a wake-up that fires after each commit of a change."""
        return self._watchers.subscribe()

    def close(self) -> None:
        """End all watches, because the server is shutting down."""
        self._watchers.close()

    def _append(self, s: Session, type_: ChangeType, after: Object) -> None:
        append_change(s, type_, after)
        self.db.after_commit(self._watchers.notify)


def append_change(s: Session, type_: ChangeType, after: Object) -> int:
    """Write a change in the caller's transaction and return its number.

    There is one writer at a time, so these numbers grow in the order of the commits.
    """
    result = s.execute(
        changes.insert().values(
            type=type_,
            uid=after.uid,
            kind=after.kind,
            teamspace=after.teamspace,
            object=to_row(after),
            at=after.updated_at,
        )
    )
    key = result.inserted_primary_key
    seq: int = key[0] if key is not None else 0
    if seq % _PRUNE_EVERY == 0:
        s.execute(changes.delete().where(changes.c.seq <= seq - KEEP_CHANGES))
    return seq


def read_changes(
    s: Session, since: int, limit: int, kind: str | None, teamspaces: Iterable[str] | None
) -> Sequence[Change]:
    """Return changes after `since`, oldest first.

    Raises:
        Gone: When changes after `since` were already dropped from the log.
    """
    query = sa.select(changes).where(changes.c.seq > since).order_by(changes.c.seq).limit(limit)
    if kind is not None:
        query = query.where(changes.c.kind == kind)
    if teamspaces is not None:
        query = query.where(changes.c.teamspace.in_(list(teamspaces)))
    oldest = s.execute(sa.select(sa.func.min(changes.c.seq))).scalar()
    if oldest is not None and since < oldest - 1:
        raise Gone(
            f"The change log begins at {oldest}, after {since}.",
            "List the objects again, then watch from there.",
        )
    rows = s.execute(query).mappings().all()
    return [Change(row["seq"], row["type"], from_row(row["object"])) for row in rows]


def newest_seq(s: Session) -> int:
    """Return the number of the newest change, 0 when there is none."""
    return s.execute(sa.select(sa.func.max(changes.c.seq))).scalar() or 0
