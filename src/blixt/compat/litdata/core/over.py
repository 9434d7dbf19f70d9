"""Rows made of another dataset's rows: what those in `read` and `mixing` share."""

from typing import Any

import numpy as np

from blixt.data import Rows


class Over(Rows[Any]):
    """The first rows of another dataset, in its order and for its ranks.

    Args:
        source: the other dataset.
        rows: how many of its rows; all when None.
        identity: what names them; as the other dataset's when None.
    """

    def __init__(
        self, source: Rows[Any], rows: int | None = None, identity: dict[str, Any] | None = None
    ) -> None:
        self.source = source
        super().__init__(
            rows=len(source) if rows is None else rows,
            row_bytes=source.row_bytes,
            identity=source.identity if identity is None else identity,
            shuffle=source.shuffle,
            seed=source.seed,
            window=source.window,
            rank=source.ranks_given[0],
            world_size=source.ranks_given[1],
        )

    def gather(self, rows: Any, allocate: Any = np.empty) -> Any:
        """Return rows as one batch."""
        return self.source.gather(rows, allocate)

    def item(self, row: int) -> Any:
        """Return one row."""
        return self.source.item(row)

    def items(self, rows: Any) -> list[Any]:
        """Return rows one by one."""
        return self.source.items(rows)

    def plan_ahead(self, rows: Any) -> None:
        """Hear which rows will be read soon."""
        self.source.plan_ahead(rows)


class OneByOne(Rows[Any]):
    """Rows of which `items` makes all others."""

    def gather(self, rows: Any, allocate: Any = np.empty) -> Any:
        """Return rows as a list."""
        del allocate
        return self.items(rows)

    def item(self, row: int) -> Any:
        """Return one row."""
        return self.items(np.array([row]))[0]
