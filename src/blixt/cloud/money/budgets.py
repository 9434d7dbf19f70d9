"""How much of each budget is spent, set aside and left."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from blixt.cloud.db import Session
from blixt.cloud.db.tables import objects, usage_segments
from blixt.cloud.money.amounts import charge_uc, month_start_us


@dataclass(frozen=True)
class BudgetUse:
    """A budget at one moment.

    Attributes:
        spent_uc: Charged for closed segments in the period.
        held_uc: Set aside for what is starting or running, the time already run included.
    """

    name: str
    applies_to: str
    period: str
    limit_uc: int
    spent_uc: int
    held_uc: int

    @property
    def remaining_uc(self) -> int:
        """What may still be set aside; never negative."""
        return max(0, self.limit_uc - self.spent_uc - self.held_uc)

    def status(self) -> dict[str, int]:
        """Return the budget object's status."""
        return {"spent_uc": self.spent_uc, "held_uc": self.held_uc, "remaining_uc": self.remaining_uc}


def uses(s: Session, teamspace: str, now_us: int, user: str | None = None) -> list[BudgetUse]:
    """Return the use of a teamspace's budgets; with `user`, of those that bind that user."""
    where = (objects.c.kind == "budget") & (objects.c.teamspace == teamspace) & ~objects.c.deleting
    rows = s.execute(sa.select(objects.c.name, objects.c.spec).where(where).order_by(objects.c.name)).all()
    binding = (None, "teamspace", f"user:{user}")
    return [
        _use(s, teamspace, row.name, row.spec, now_us)
        for row in rows
        if user is None or row.spec["applies_to"] in binding
    ]


def tightest(budgets: Iterable[BudgetUse]) -> BudgetUse | None:
    """Return the budget with the least left, None when there is none."""
    return min(budgets, key=lambda budget: budget.remaining_uc, default=None)


def _use(s: Session, teamspace: str, name: str, spec: Mapping[str, Any], now_us: int) -> BudgetUse:
    applies_to: str = spec["applies_to"]
    start_us = month_start_us(now_us) if spec["period"] == "month" else 0
    mine = usage_segments.c.teamspace == teamspace
    if applies_to != "teamspace":
        mine &= usage_segments.c.owner == applies_to.removeprefix("user:")
    spent = _sum(s, usage_segments.c.amount_uc, mine & (usage_segments.c.opened_us >= start_us))
    held = _sum(
        s,
        usage_segments.c.hold_uc,
        mine
        & usage_segments.c.state.in_(("held", "open"))
        & (sa.func.coalesce(usage_segments.c.opened_us, start_us) >= start_us),
    )
    before_spent, before_held = _from_before(s, mine, start_us)
    return BudgetUse(
        name, applies_to, spec["period"], spec["limit_uc"], spent + before_spent, held + before_held
    )


def _from_before(s: Session, mine: sa.ColumnElement[bool], start_us: int) -> tuple[int, int]:
    """Return what segments opened before the period spend and hold inside it."""
    c = usage_segments.c
    query = sa.select(usage_segments).where(
        mine & (c.opened_us < start_us) & sa.or_(c.closed_us.is_(None), c.closed_us > start_us)
    )
    spent = held = 0
    for row in s.execute(query).mappings():
        earlier = charge_uc(start_us - row["opened_us"], row["price_uc_per_hour"])
        if row["state"] == "closed":
            spent += max(0, row["amount_uc"] - earlier)
        else:
            held += max(0, row["hold_uc"] - earlier)
    return spent, held


def _sum(s: Session, column: sa.ColumnElement[int], where: sa.ColumnElement[bool]) -> int:
    return int(s.scalar(sa.select(sa.func.sum(column)).where(where)) or 0)
