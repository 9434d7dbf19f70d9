"""The audit log: who did what, each entry bound to the one before it by a hash."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from blixt.cloud.db import Session
from blixt.cloud.db.tables import audit, audit_head

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


def _digest(previous: str, entry: Mapping[str, Any]) -> str:
    fields = [entry[key] for key in _HASHED]
    return hashlib.sha256((previous + json.dumps(fields, separators=(",", ":"))).encode()).hexdigest()
