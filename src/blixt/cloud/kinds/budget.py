"""Budget: how many credits a teamspace, or one user in it, may spend."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from blixt.cloud.kinds.base import Kind, Spec, Status, register

_APPLIES_TO = re.compile(r"(teamspace|user:[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)\Z")


def _applies_to(value: str) -> str:
    if not _APPLIES_TO.match(value):
        raise ValueError(f"{value[:80]!r} is neither 'teamspace' nor 'user:NAME'")
    return value


class BudgetSpec(Spec):
    """A limit in micro-credits, over all time or each calendar month (UTC)."""

    limit_uc: int = Field(ge=0, le=10**18)
    period: Literal["total", "month"] = "total"
    applies_to: Annotated[str, AfterValidator(_applies_to)] = "teamspace"


class BudgetStatus(Status):
    """What is spent and set aside; computed from the usage when read."""

    spent_uc: int = 0
    held_uc: int = 0
    remaining_uc: int | None = None


BUDGET = register(Kind("budget", "budgets", BudgetSpec, BudgetStatus))
