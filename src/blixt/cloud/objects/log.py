"""The change log, and objects as rows of the database."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from blixt.cloud.db import Session
from blixt.cloud.db.tables import changes
from blixt.cloud.errors import Gone
from blixt.cloud.objects.object import Change, Object

KEEP_CHANGES = 100_000
_PRUNE_EVERY = 1000


def append_change(s: Session, type_: Literal["created", "updated", "deleted"], after: Object) -> int:
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


def to_row(item: Object) -> dict[str, Any]:
    """Return an object as a row of the table `objects`."""
    return {**item.to_json(), "finalizers": list(item.finalizers)}


def from_row(row: Mapping[Any, Any]) -> Object:
    """Return the object of a row."""
    values: dict[str, Any] = {**row, "finalizers": tuple(row["finalizers"])}
    return Object(**values)
