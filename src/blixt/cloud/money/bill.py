"""The bill: what ran between two moments and what it costs, segments still open included."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from blixt.cloud.money.amounts import charge_uc
from blixt.cloud.money.budgets import BudgetUse


@dataclass(frozen=True)
class BillLine:
    """What one object ran on one machine type.

    Attributes:
        seconds: Machine-seconds inside the bill's period.
        segments: How many allocations these were.
        open: Whether one still runs, so that the amount grows.
    """

    kind: str
    name: str
    uid: str
    machine: str
    seconds: float
    amount_uc: int
    segments: int
    open: bool


@dataclass(frozen=True)
class Bill:
    """A teamspace's bill.

    Attributes:
        budget_uc: Limit of the tightest budget of the teamspace, None without a budget.
        remaining_uc: What is left of it after holds.
        balance_uc: The teamspace's account in the ledger: minus everything ever charged.
    """

    teamspace: str
    since: float
    until: float
    lines: list[BillLine]
    total_uc: int
    budget_uc: int | None
    remaining_uc: int | None
    balance_uc: int
    budgets: list[BudgetUse]

    def to_json(self) -> dict[str, Any]:
        """Return the bill as the API sends it."""
        shown = [{**asdict(budget), "remaining_uc": budget.remaining_uc} for budget in self.budgets]
        return {**asdict(self), "budgets": shown}


def lines(segments: Iterable[Mapping[Any, Any]], since_us: int, until_us: int) -> list[BillLine]:
    """Return the bill's lines, one for each object and machine type, in order of first use.

    An amount between two moments is the difference of two running amounts, so that the bills of adjacent
    periods add up to exactly what was charged.
    """
    found: dict[tuple[str, str], BillLine] = {}
    for row in segments:
        begin = max(row["opened_us"], since_us)
        end = min(until_us if row["closed_us"] is None else row["closed_us"], until_us)
        if end < begin or (row["closed_us"] is not None and row["closed_us"] <= since_us):
            continue
        amount = _running_uc(row, until_us) - _running_uc(row, since_us)
        key = (row["object_uid"], row["machine"])
        old = found.get(key)
        found[key] = BillLine(
            kind=row["kind"],
            name=row["name"],
            uid=row["object_uid"],
            machine=row["machine"],
            seconds=(end - begin) / 1_000_000 + (old.seconds if old else 0.0),
            amount_uc=amount + (old.amount_uc if old else 0),
            segments=1 + (old.segments if old else 0),
            open=row["closed_us"] is None or bool(old and old.open),
        )
    return list(found.values())


def _running_uc(row: Mapping[Any, Any], at_us: int) -> int:
    """Return what a segment had cost by `at_us`."""
    if row["closed_us"] is not None and at_us >= row["closed_us"]:
        return row["amount_uc"]
    so_far = charge_uc(at_us - row["opened_us"], row["price_uc_per_hour"])
    return so_far if row["amount_uc"] is None else min(so_far, row["amount_uc"])
