"""The audit log: who did what, each entry bound to the one before it by a hash."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from blixt.cloud.db import Database, Session
from blixt.cloud.db.tables import audit, audit_head

if TYPE_CHECKING:
    from blixt.cloud.identity.principal import Principal

FIRST_HASH = "0" * 64
_HASHED = ("seq", "at", "actor", "action", "kind", "teamspace", "name", "outcome", "detail")


@dataclass(frozen=True)
class AuditEntry:
    """One entry of the audit log."""

    seq: int
    at: float
    actor: str
    action: str
    kind: str
    teamspace: str
    name: str
    outcome: str
    detail: dict[str, Any]
    hash: str

    def to_json(self) -> dict[str, Any]:
        """Return the entry as the API sends it."""
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """What verifying the chain found.

    Attributes:
        ok: Whether every entry is as it was written, and none is missing.
        entries: How many entries were checked.
        problem: The first thing that is wrong, empty when nothing is.
    """

    ok: bool
    entries: int
    problem: str = ""


def append(
    session: Session,
    actor: str,
    action: str,
    kind: str,
    teamspace: str,
    name: str,
    outcome: str = "ok",
    detail: Mapping[str, Any] | None = None,
    at: float | None = None,
) -> None:
    """Append an entry in the caller's write transaction, so that deed and entry stand or fall together."""
    head = session.execute(sa.select(audit_head.c.seq, audit_head.c.hash)).first()
    seq, previous = (head.seq + 1, head.hash) if head is not None else (1, FIRST_HASH)
    entry: dict[str, Any] = {
        "seq": seq,
        "at": time.time() if at is None else at,
        "actor": actor[:256],
        "action": action,
        "kind": kind,
        "teamspace": teamspace,
        "name": name[:256],
        "outcome": outcome,
        "detail": json.dumps(dict(detail or {}), sort_keys=True, separators=(",", ":")),
    }
    digest = _digest(previous, entry)
    session.execute(audit.insert().values(**entry, previous_hash=previous, hash=digest))
    if head is None:
        session.execute(audit_head.insert().values(id=1, seq=seq, hash=digest))
    else:
        session.execute(audit_head.update().values(seq=seq, hash=digest))


def _digest(previous: str, entry: Mapping[Any, Any]) -> str:
    fields = [entry[key] for key in _HASHED]
    return hashlib.sha256((previous + json.dumps(fields, separators=(",", ":"))).encode()).hexdigest()


class Audit:
    """Writes, reads and verifies the audit log.

    Args:
        db: The database.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    def write(
        self,
        principal: "Principal | str",
        action: str,
        kind: str,
        teamspace: str = "",
        name: str = "",
        outcome: str = "ok",
        detail: Mapping[str, Any] | None = None,
        *,
        session: Session | None = None,
    ) -> None:
        """Append an entry, in the caller's transaction when `session` is given."""
        actor = principal if isinstance(principal, str) else principal.actor
        with self._db.joined(session) as s:
            append(s, actor, action, kind, teamspace, name, outcome, detail)

    def list(self, teamspace: str, limit: int = 100, before: int | None = None) -> Sequence[AuditEntry]:
        """Return a teamspace's newest entries, newest first, older than `before` when given."""
        query = (
            sa.select(audit).where(audit.c.teamspace == teamspace).order_by(audit.c.seq.desc()).limit(limit)
        )
        if before is not None:
            query = query.where(audit.c.seq < before)
        with self._db.read() as s:
            rows = s.execute(query).mappings().all()
        return [_entry(row) for row in rows]

    def verify(self) -> Verdict:
        """Check the whole chain: every hash, no gap, and the end that was recorded.

        The chain shows changes made around this program. Somebody who can write the database and recomputes
        every later hash is only found by comparing the head with one kept elsewhere.
        """
        previous, seq = FIRST_HASH, 0
        with self._db.read() as s:
            for row in s.execute(sa.select(audit).order_by(audit.c.seq)).mappings():
                if row["seq"] != seq + 1:
                    return Verdict(False, seq, f"Entry {seq + 1} is missing.")
                seq += 1
                if row["previous_hash"] != previous or row["hash"] != _digest(previous, dict(row)):
                    return Verdict(False, seq, f"Entry {seq} was changed after it was written.")
                previous = row["hash"]
            head = s.execute(sa.select(audit_head.c.seq, audit_head.c.hash)).first()
        recorded = (0, FIRST_HASH) if head is None else (head.seq, head.hash)
        if recorded != (seq, previous):
            return Verdict(False, seq, f"The log ends at entry {seq}, but {recorded[0]} were written.")
        return Verdict(True, seq)


def _entry(row: Mapping[Any, Any]) -> AuditEntry:
    shown = {name: row[name] for name in AuditEntry.__dataclass_fields__}
    return AuditEntry(**{**shown, "detail": json.loads(row["detail"])})
