"""Allocations: rows, money, tokens and the engine's machines, kept in step through the journal.

An allocation goes requested -> live -> ended and never back. Its id is the effect's token: the object's uid,
the attempt and the part, so that a restarted server asks the engine for the same machine, not for another.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from blixt.cloud.api import Cloud
from blixt.cloud.controllers.journal import Journal
from blixt.cloud.controllers.queue import Lease, WorkQueue
from blixt.cloud.controllers.volumes import Volumes
from blixt.cloud.db import allocations
from blixt.cloud.engines import Engine, EngineError, MachineRequest
from blixt.cloud.errors import Gone, Invalid, Unauthenticated
from blixt.cloud.hub import Attached
from blixt.cloud.objects import Object

ALLOCATE = "allocate"


@dataclass(frozen=True)
class Allocation:
    """One machine given to one object."""

    id: str
    uid: str
    kind: str
    teamspace: str
    name: str
    part: str
    attempt: int
    machine: str
    state: str
    token_id: str | None
    created_at: float
    live_at: float | None
    reason: str

    @property
    def attached(self) -> Attached:
        """The same allocation as the hub knows it."""
        return Attached(self.id, self.uid, self.kind, self.part, self.attempt)


class Allocations:
    """Asks for machines, pays for them, and lets them go.

    Every method blocks; controllers call them in threads.
    """

    def __init__(
        self,
        cloud: Cloud,
        engine: Engine,
        volumes: Volumes,
        queue: WorkQueue,
        *,
        url: Callable[[], str],
        key: bytes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cloud = cloud
        self._engine = engine
        self._volumes = volumes
        self._queue = queue
        self._url = url
        self._key = key
        self._clock = clock
        self._journal = Journal(cloud.db, clock)

    # -- reading -------------------------------------------------------------------------------------------

    def of(self, uid: str) -> list[Allocation]:
        """The allocations of an object that have not ended."""
        return self._select((allocations.c.uid == uid) & (allocations.c.state != "ended"))

    def unended(self) -> list[Allocation]:
        """Every allocation that has not ended."""
        return self._select(allocations.c.state != "ended")

    def get(self, id: str) -> Allocation | None:
        """One allocation, ended or not."""
        found = self._select(allocations.c.id == id)
        return found[0] if found else None

    def agent_token(self, id: str) -> str:
        """What the allocation's agent proves itself with."""
        return f"{id}.{hmac.new(self._key, id.encode(), hashlib.sha256).hexdigest()}"

    def next_serial(self, uid: str) -> int:
        """A number that no allocation of the object ever had as its part `rN`."""
        query = sa.select(allocations.c.part).where(allocations.c.uid == uid)
        with self._cloud.db.read() as s:
            return 1 + max((int(part.lstrip("r")) for part in s.scalars(query)), default=0)

    def attach(self, token: str) -> Attached:
        """The allocation whose agent shows this token.

        Raises:
            Unauthenticated: The token is not one of ours.
            Gone: The allocation has ended.
        """
        id, _, _ = token.rpartition(".")
        if not id or not hmac.compare_digest(token.encode(), self.agent_token(id).encode()):
            raise Unauthenticated("This is not the token of an allocation.")
        found = self.get(id)
        if found is None or found.state == "ended":
            raise Gone(f"The allocation {id} has ended.")
        return found.attached

    # -- changing ------------------------------------------------------------------------------------------

    def request(self, obj: Object, lease: Lease, *, part: str, attempt: int) -> Allocation:
        """Write down that a machine is wanted, and set its first minute's money aside.

        Raises:
            BudgetExceeded: A budget does not cover it; nothing was written.
            Invalid: No machine here can be that large.
        """
        machine = obj.spec["machine"]
        self._check_fits(machine)
        id = f"{obj.uid[:20]}-{attempt}-{part}"
        now = self._clock()
        row: dict[str, Any] = {
            "id": id,
            "uid": obj.uid,
            "kind": obj.kind,
            "teamspace": obj.teamspace,
            "name": obj.name,
            "part": part,
            "attempt": attempt,
            "engine": self._engine.name,
            "machine": machine,
            "state": "requested",
            "created_at": now,
        }
        with self._cloud.db.write() as s:
            self._queue.check(lease, s)
            if s.execute(sa.select(allocations.c.id).where(allocations.c.id == id)).first() is None:
                self._cloud.money.place_hold(id, obj, machine, now, session=s)
                s.execute(allocations.insert().values(**row))
                self._journal.begin(id, obj.uid, ALLOCATE, session=s)
        found = self.get(id)
        assert found is not None
        return found

    def start(self, allocation: Allocation, obj: Object) -> Allocation:
        """Have the engine start the machine, or find the one it started before a crash.

        Raises:
            EngineError: It cannot, or somebody ended the allocation meanwhile; it has ended.
        """
        machine = self._cloud.money.machines()[allocation.machine]
        request = MachineRequest(
            machine=machine.name,
            cpus=machine.cpus,
            memory_gb=machine.memory_gb,
            gpus=machine.gpus,
            url=self._url(),
            agent_token=self.agent_token(allocation.id),
            teamspace=obj.teamspace,
            home=self._volumes.home(obj),
            shared=self._volumes.shared(obj.teamspace),
            hostname=obj.name[:60],
        )
        try:
            found = self._engine.find(allocation.id) or self._engine.allocate(request, allocation.id)
            if not found.alive:
                raise EngineError(f"The machine ended while it started: {found.reason or 'no reason given'}")
        except EngineError as error:
            self.end(allocation, str(error), failed=True)
            raise
        if not self._go_live(allocation, obj):
            self._engine.release(allocation.id)
            raise EngineError("The allocation was ended while its machine started.")
        live = self.get(allocation.id)
        assert live is not None
        return live

    def end(self, allocation: Allocation, reason: str, *, failed: bool = False) -> None:
        """Release the machine, close its segment, revoke its token; ending it twice changes nothing."""
        self._engine.release(allocation.id)
        now = self._clock()
        with self._cloud.db.write() as s:
            this = allocations.c.id == allocation.id
            row = s.execute(sa.select(allocations).where(this)).mappings().first()
            if row is None or row["state"] == "ended":
                return
            self._cloud.money.close_segment(allocation.id, now, session=s)
            if row["token_id"]:
                self._cloud.identity.revoke_token(row["token_id"], session=s)
            values = {"state": "ended", "ended_at": now, "reason": row["reason"] or reason}
            s.execute(allocations.update().where(this).values(**values))
            self._journal.finish(allocation.id, session=s, failed=failed)

    def _go_live(self, allocation: Allocation, obj: Object) -> bool:
        """Open the segment of a machine that started; False when the allocation has ended meanwhile."""
        now = self._clock()
        with self._cloud.db.write() as s:
            this = allocations.c.id == allocation.id
            if s.scalar(sa.select(allocations.c.state).where(this)) == "ended":
                return False
            self._cloud.money.open_segment(allocation.id, obj, allocation.machine, now, session=s)
            s.execute(allocations.update().where(this).values(state="live", live_at=now))
            self._journal.finish(allocation.id, session=s)
        return True

    def evict(self, id: str, reason: str) -> str | None:
        """Mark an allocation to be ended by its controller; returns the object's uid."""
        with self._cloud.db.write() as s:
            this = (allocations.c.id == id) & (allocations.c.state != "ended")
            s.execute(allocations.update().where(this).values(reason=reason))
            uid = s.scalar(sa.select(allocations.c.uid).where(this))
        return None if uid is None else str(uid)

    def issue_token(self, allocation: Allocation, owner: str) -> str:
        """A fresh token for the workload: its teamspace only, as member. An older one dies."""
        with self._cloud.db.write() as s:
            this = allocations.c.id == allocation.id
            old = s.scalar(sa.select(allocations.c.token_id).where(this))
            if old:
                self._cloud.identity.revoke_token(old, session=s)
            issued = self._cloud.identity.issue_token(
                owner,
                scope=f"{allocation.kind}/{allocation.name}",
                teamspace=allocation.teamspace,
                role="member",
                label=f"{allocation.kind}/{allocation.name}",
                actor="server",
                session=s,
            )
            s.execute(allocations.update().where(this).values(token_id=issued.id))
        return issued.secret

    def secrets(self, obj: Object) -> dict[str, str]:
        """The values of the secrets that an object names.

        Raises:
            CloudError: One of them does not exist.
        """
        values: dict[str, str] = {}
        for name in obj.spec.get("secrets", []):
            values[name] = self._cloud.secrets.get(obj.teamspace, name, actor=f"{obj.kind}/{obj.name}")
        return values

    def forget(self, uid: str) -> None:
        """Drop the rows of an object that is gone; the money's own rows stay for ever."""
        with self._cloud.db.write() as s:
            s.execute(allocations.delete().where(allocations.c.uid == uid, allocations.c.state == "ended"))
            self._journal.forget(uid, session=s)

    def _check_fits(self, name: str) -> None:
        machine = self._cloud.money.machines().get(name)
        if machine is None:
            raise Invalid(
                f"There is no machine type {name!r}.", "Choose one that `GET /api/v1/machines` lists."
            )
        for offer in self._engine.offers():
            if machine.gpus <= offer.gpus and machine.memory_gb <= offer.memory_gb:
                return
        raise Invalid(
            f"No engine here can give a {name} ({machine.gpus} GPUs, {machine.memory_gb:g} GB).",
            "Choose a smaller machine.",
        )

    def _select(self, where: sa.ColumnElement[bool]) -> list[Allocation]:
        columns = [allocations.c[name] for name in Allocation.__dataclass_fields__]
        query = sa.select(*columns).where(where).order_by(allocations.c.created_at, allocations.c.part)
        with self._cloud.db.read() as s:
            return [Allocation(**_plain(row)) for row in s.execute(query).mappings()]


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in row.items()}
