"""Budget: how much a teamspace or a user may spend; a start that it does not cover is refused."""

from typing import Any

from blixt.client.client import Client, default_client
from blixt.client.errors import Conflict
from blixt.client.resource import Resource
from blixt.client.types import MICRO_CREDITS

DEFAULT_NAME = "default"


class Budget(Resource):
    """A limit on spending.

    Example:
        >>> from blixt.client import Budget
        >>> Budget.set(credits=5).remaining_uc       # doctest: +SKIP
        5000000
    """

    kind = "budget"
    plural = "budgets"

    @classmethod
    def set(
        cls,
        credits: float | None = None,
        *,
        limit_uc: int | None = None,
        name: str = DEFAULT_NAME,
        period: str = "total",
        applies_to: str = "teamspace",
        client: Client | None = None,
    ) -> "Budget":
        """Set a limit, replacing the one of that name.

        Args:
            credits: The limit in credits.
            limit_uc: The limit in micro-credits, instead of `credits`.
            name: The budget's name.
            period: `total`, or `month` for a limit that begins anew each month.
            applies_to: `teamspace`, or `user:NAME`.
            client: The connection; the default one when not given.
        """
        client = client or default_client()
        if (credits is None) == (limit_uc is None):
            raise ValueError("Give either credits or limit_uc.")
        limit = limit_uc if limit_uc is not None else round((credits or 0) * MICRO_CREDITS)
        spec: dict[str, Any] = {"limit_uc": limit, "period": period, "applies_to": applies_to}
        try:
            data = client.create_object(cls.plural, name, spec)
        except Conflict:
            data = client.patch_object(cls.plural, name, spec)
        return cls(client, data).refresh()

    @property
    def limit_uc(self) -> int:
        """The limit, in micro-credits."""
        return int(self.spec["limit_uc"])

    @property
    def spent_uc(self) -> int:
        """What is spent, in micro-credits, as last seen."""
        return int(self.data.status.get("spent_uc") or 0)

    @property
    def held_uc(self) -> int:
        """What is set aside for running machines, in micro-credits, as last seen."""
        return int(self.data.status.get("held_uc") or 0)

    @property
    def remaining_uc(self) -> int:
        """What is left, in micro-credits, as last seen."""
        remaining = self.data.status.get("remaining_uc")
        return self.limit_uc - self.spent_uc - self.held_uc if remaining is None else int(remaining)
