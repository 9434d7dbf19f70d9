"""Which object to look at next: a queue in the database, with leases and fences.

A worker leases an object for a while and gets a fence number that grows with every lease. Before it writes,
the fence is compared in the same transaction: a worker that slept through its lease can no longer write.
Waking an object that is being worked on raises its generation, so it is looked at once more afterwards.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from blixt.cloud.db import Database, Session, work_items

LEASE_S = 30.0
NEVER = 1e12
LONGEST_BACKOFF_S = 60.0


class LostLease(Exception):
    """Somebody else works on this object now; what was about to be written is void."""


@dataclass(frozen=True)
class Lease:
    """The right to work on one object for a while."""

    uid: str
    fence: int
    generation: int
    failures: int


class WorkQueue:
    """The queue of objects that want attention.

    Args:
        db: The database.
        owner: Names this server in leases.
        clock: Returns unix seconds.
        lease_s: How long a lease lasts without renewal.
    """

    def __init__(
        self, db: Database, owner: str, clock: Callable[[], float] = time.time, lease_s: float = LEASE_S
    ) -> None:
        self._db = db
        self._owner = owner
        self._clock = clock
        self.lease_s = lease_s

    def now(self) -> float:
        """Unix seconds by the queue's clock."""
        return self._clock()

    def add(self, uids: Iterable[str]) -> None:
        """Ask for these objects to be looked at now."""
        now = self._clock()
        with self._db.write() as s:
            for uid in uids:
                changed = s.execute(
                    work_items.update()
                    .where(work_items.c.uid == uid)
                    .values(due_at=now, generation=work_items.c.generation + 1)
                )
                if changed.rowcount == 0:
                    s.execute(work_items.insert().values(uid=uid, due_at=now))

    def lease(self) -> Lease | None:
        """Take the object that has been due the longest, or None when nothing is due."""
        now = self._clock()
        query = (
            sa.select(work_items)
            .where(work_items.c.due_at <= now, work_items.c.lease_until <= now)
            .order_by(work_items.c.due_at)
            .limit(1)
        )
        with self._db.read() as s:
            if s.execute(query).first() is None:
                return None  # the common case costs no write transaction
        with self._db.write() as s:
            row = s.execute(query).mappings().first()
            if row is None:
                return None
            fence = row["fence"] + 1
            values = {"fence": fence, "lease_owner": self._owner, "lease_until": now + self.lease_s}
            s.execute(work_items.update().where(work_items.c.uid == row["uid"]).values(**values))
        return Lease(row["uid"], fence, row["generation"], row["failures"])

    def renew(self, lease: Lease) -> None:
        """Hold the lease longer.

        Raises:
            LostLease: It is no longer ours.
        """
        with self._db.write() as s:
            self.check(lease, s)
            until = self._clock() + self.lease_s
            s.execute(work_items.update().where(work_items.c.uid == lease.uid).values(lease_until=until))

    def check(self, lease: Lease, session: Session) -> None:
        """Make sure, inside a transaction, that the lease still holds.

        Raises:
            LostLease: It does not.
        """
        found = session.scalar(sa.select(work_items.c.fence).where(work_items.c.uid == lease.uid))
        if found != lease.fence:
            raise LostLease(f"{lease.uid} is worked on by somebody else (fence {found}, not {lease.fence})")

    def settle(self, lease: Lease, again_s: float | None, *, failed: bool = False) -> None:
        """Give the lease back and say when to look again; None means only when woken.

        Raises:
            LostLease: The lease is no longer ours.
        """
        now = self._clock()
        failures = lease.failures + 1 if failed else 0
        with self._db.write() as s:
            self.check(lease, s)
            query = sa.select(work_items.c.generation).where(work_items.c.uid == lease.uid)
            woken = s.scalar(query) != lease.generation
            due = NEVER if again_s is None else now + again_s
            if failed:
                due = now + min(LONGEST_BACKOFF_S, 0.5 * 2 ** min(failures, 10))
            elif woken:
                due = now
            values = {"due_at": due, "lease_owner": None, "lease_until": 0.0, "failures": failures}
            s.execute(work_items.update().where(work_items.c.uid == lease.uid).values(**values))

    def forget(self, uid: str) -> None:
        """Drop an object that is gone."""
        with self._db.write() as s:
            s.execute(work_items.delete().where(work_items.c.uid == uid))

    def release_all(self) -> None:
        """At a server's start: leases that the same server held before its crash hold nobody up."""
        with self._db.write() as s:
            mine = work_items.c.lease_owner == self._owner
            s.execute(work_items.update().where(mine).values(lease_until=0.0, fence=work_items.c.fence + 1))

    def next_due(self) -> float | None:
        """When the next object wants attention, in unix seconds."""
        at = sa.case(
            (work_items.c.lease_until > work_items.c.due_at, work_items.c.lease_until),
            else_=work_items.c.due_at,
        )
        with self._db.read() as s:
            found = s.scalar(sa.select(sa.func.min(at)))
        return None if found is None or found >= NEVER else float(found)
