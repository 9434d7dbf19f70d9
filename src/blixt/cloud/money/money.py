"""Holds, usage segments and charges: each allocation is paid for exactly once, and no budget is overrun."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from blixt.cloud.db import Database, Session
from blixt.cloud.db.tables import usage_segments
from blixt.cloud.errors import BudgetExceeded, Conflict
from blixt.cloud.money import bill as bills
from blixt.cloud.money import budgets, ledger
from blixt.cloud.money.amounts import charge_uc, covered_us, credits_text, hold_uc, to_us
from blixt.cloud.money.prices import Machine, PriceList
from blixt.cloud.objects import Object

HOLD_US = 60_000_000
"""How far ahead running time is set aside."""
EXTEND_BEFORE_US = 30_000_000
"""A hold is extended when it covers less than this."""
STOP_BEFORE_US = 5_000_000
"""What cannot be extended is stopped this long before its hold runs out."""


class Money:
    """The cloud's money.

    An allocation's segment goes held -> open -> closed, or held -> released when it never started. Every
    method may be repeated: a second call changes nothing.

    Args:
        db: The database.
        prices: The price list.
        clock: Returns unix seconds.
    """

    def __init__(self, db: Database, prices: PriceList, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self.prices = prices
        self._clock = clock

    def machines(self) -> Mapping[str, Machine]:
        """Return the machine types by name."""
        return self.prices.machines()

    def place_hold(
        self, allocation_id: str, obj: Object, machine: str, at: float, *, session: Session | None = None
    ) -> None:
        """Set aside the first minute of an allocation, before anything is started.

        Raises:
            BudgetExceeded: When a budget that binds the object's owner does not cover it.
            Invalid: When there is no such machine type.
        """
        price = self.prices.machine(machine).price_uc_per_hour
        needed = hold_uc(HOLD_US, price)
        with self._db.joined(session) as s:
            if _segment(s, allocation_id) is not None:
                return
            self._check_room(s, obj, machine, needed, to_us(at))
            s.execute(
                usage_segments.insert().values(
                    allocation_id=allocation_id,
                    object_uid=obj.uid,
                    kind=obj.kind,
                    teamspace=obj.teamspace,
                    name=obj.name,
                    owner=obj.owner,
                    machine=machine,
                    price_uc_per_hour=price,
                    state="held",
                    hold_uc=needed,
                    held_us=to_us(at),
                )
            )

    def check_start(self, obj: Object, *, session: Session | None = None) -> None:
        """Refuse at once what is asked to run but could not be paid for its first minute.

        Raises:
            BudgetExceeded: When a budget that binds the object's owner does not cover it.
        """
        machine: str | None = obj.spec.get("machine")
        count: int = obj.spec.get("min_replicas", obj.spec.get("machines", 1))
        if machine is None or count == 0 or obj.spec["desired"] != "running":
            return
        needed = count * hold_uc(HOLD_US, self.prices.machine(machine).price_uc_per_hour)
        with self._db.viewed(session) as s:
            self._check_room(s, obj, machine, needed, to_us(self._clock()))

    def open_segment(
        self, allocation_id: str, obj: Object, machine: str, at: float, *, session: Session | None = None
    ) -> None:
        """Begin to charge an allocation; the price is the one of its hold.

        Raises:
            Conflict: When the allocation has no hold.
        """
        with self._db.joined(session) as s:
            row = _segment(s, allocation_id)
            if row is None:
                raise Conflict(
                    f"Allocation {allocation_id!r} of {obj.path} on {machine} has no hold.",
                    "Place a hold before starting anything.",
                )
            if row["state"] == "held":
                _update(s, allocation_id, state="open", opened_us=to_us(at))

    def close_segment(self, allocation_id: str, at: float, *, session: Session | None = None) -> int:
        """End an allocation: charge its time once and let go of its hold. Returns what was charged.

        Time that no budget covers (the server was down and could not stop it) is given away, never
        charged: a budget is a promise. It is written down in `unbilled_uc`.
        """
        with self._db.joined(session) as s:
            row = _segment(s, allocation_id)
            if row is None or row["state"] not in ("held", "open"):
                return 0 if row is None else row["amount_uc"] or 0
            if row["state"] == "held":
                _update(s, allocation_id, state="released", hold_uc=0)
                return 0
            closed_us = max(to_us(at), row["opened_us"])
            cost = charge_uc(closed_us - row["opened_us"], row["price_uc_per_hour"])
            beyond = max(0, cost - row["hold_uc"])
            charged = cost - beyond + self._grant(s, row, beyond, closed_us)
            _update(
                s,
                allocation_id,
                state="closed",
                closed_us=closed_us,
                amount_uc=charged,
                unbilled_uc=cost - charged,
                hold_uc=0,
            )
            self._charge(s, row, charged, closed_us)
            return charged

    def extend_holds(self, now: float, *, session: Session | None = None) -> Sequence[str]:
        """Set aside the next minute of everything that runs; call it every few seconds.

        Returns:
            Allocations whose budget does not last: stop them now.
        """
        now_us = to_us(now)
        with self._db.viewed(session) as s:
            if not any(_us_left(row, now_us) < EXTEND_BEFORE_US for row in _open_segments(s)):
                return []
        with self._db.joined(session) as s:
            return [
                row["allocation_id"]
                for row in _open_segments(s)
                if _us_left(row, now_us) < EXTEND_BEFORE_US and not self._extend(s, row, now_us)
            ]

    def bill(self, teamspace: str, since: float | None = None, until: float | None = None) -> bills.Bill:
        """Return a teamspace's bill between two moments; by default everything until now."""
        now = self._clock()
        begin, end = since or 0.0, min(until, now) if until is not None else now
        c = usage_segments.c
        query = sa.select(usage_segments).where((c.teamspace == teamspace) & c.opened_us.is_not(None))
        query = query.where(c.opened_us < to_us(end)).order_by(c.opened_us, c.allocation_id)
        with self._db.read() as s:
            found = bills.lines(s.execute(query).mappings(), to_us(begin), to_us(end))
            used = budgets.uses(s, teamspace, to_us(now))
            balance = ledger.balance_uc(s, ledger.teamspace_account(teamspace))
        tightest = budgets.tightest(use for use in used if use.applies_to == "teamspace")
        return bills.Bill(
            teamspace=teamspace,
            since=begin,
            until=end,
            lines=found,
            total_uc=sum(line.amount_uc for line in found),
            budget_uc=tightest.limit_uc if tightest else None,
            remaining_uc=tightest.remaining_uc if tightest else None,
            balance_uc=balance,
            budgets=used,
        )

    def ledger(self, teamspace: str, limit: int = 100) -> list[ledger.LedgerEntry]:
        """Return the newest entries of a teamspace's account."""
        with self._db.read() as s:
            return ledger.entries(s, ledger.teamspace_account(teamspace), limit)

    def budget_uses(self, teamspace: str) -> list[budgets.BudgetUse]:
        """Return how much of each of a teamspace's budgets is spent, held and left."""
        with self._db.read() as s:
            return budgets.uses(s, teamspace, to_us(self._clock()))

    # -- inside --------------------------------------------------------------------------------------------

    def _check_room(self, s: Session, obj: Object, machine: str, needed: int, at_us: int) -> None:
        tightest = budgets.tightest(budgets.uses(s, obj.teamspace, at_us, obj.owner))
        if tightest is None or tightest.remaining_uc >= needed:
            return
        left, limit = credits_text(tightest.remaining_uc), credits_text(tightest.limit_uc)
        raise BudgetExceeded(
            f"The {obj.kind} {obj.name!r} needs {credits_text(needed)} for its first minute on {machine}, "
            f"but budget {tightest.name!r} of teamspace {obj.teamspace!r} has {left} left of {limit}.",
            "Raise the budget, stop something that runs, or choose a cheaper machine.",
        )

    def _grant(self, s: Session, row: Mapping[Any, Any], wanted: int, at_us: int) -> int:
        """Return how much of `wanted` the budgets still cover."""
        tightest = budgets.tightest(budgets.uses(s, row["teamspace"], at_us, row["owner"]))
        return wanted if tightest is None else min(wanted, tightest.remaining_uc)

    def _extend(self, s: Session, row: Mapping[Any, Any], now_us: int) -> bool:
        """Extend a hold as far as the budgets allow; return whether the allocation may go on."""
        target = hold_uc(now_us - row["opened_us"] + HOLD_US, row["price_uc_per_hour"])
        extra = self._grant(s, row, max(0, target - row["hold_uc"]), now_us)
        held = row["hold_uc"] + extra
        if extra:
            _update(s, row["allocation_id"], hold_uc=held)
        return _us_left({**row, "hold_uc": held}, now_us) > STOP_BEFORE_US

    def _charge(self, s: Session, row: Mapping[Any, Any], amount: int, closed_us: int) -> None:
        if amount == 0:
            return
        seconds = (closed_us - row["opened_us"]) / 1_000_000
        ledger.post(
            s,
            f"charge:{row['allocation_id']}",
            {ledger.teamspace_account(row["teamspace"]): -amount, ledger.INCOME: amount},
            f"{row['kind']} {row['name']}: {seconds:.3f} s of {row['machine']}",
            closed_us / 1_000_000,
        )


def _segment(s: Session, allocation_id: str) -> Mapping[Any, Any] | None:
    query = sa.select(usage_segments).where(usage_segments.c.allocation_id == allocation_id)
    return s.execute(query).mappings().one_or_none()


def _open_segments(s: Session) -> Sequence[Mapping[Any, Any]]:
    query = sa.select(usage_segments).where(usage_segments.c.state == "open")
    return (
        s.execute(query.order_by(usage_segments.c.opened_us, usage_segments.c.allocation_id)).mappings().all()
    )


def _update(s: Session, allocation_id: str, **values: Any) -> None:
    s.execute(usage_segments.update().where(usage_segments.c.allocation_id == allocation_id).values(**values))


def _us_left(row: Mapping[Any, Any], now_us: int) -> float:
    """Return how many microseconds the hold still pays for."""
    covered = covered_us(row["hold_uc"], row["price_uc_per_hour"])
    return float("inf") if covered is None else row["opened_us"] + covered - now_us
