"""Warnings: their classes, and the means to silence or repeat them."""

import logging
import warnings
from typing import Any

from blixt.fabric import rank_zero_only, rank_zero_warn
from blixt.fabric.rank_zero import PossibleUserWarning

__all__ = [
    "LightningDeprecationWarning",
    "PossibleUserWarning",
    "WarningCache",
    "disable_possible_user_warnings",
    "rank_zero_debug",
]


class LightningDeprecationWarning(DeprecationWarning):
    """A name or an argument that goes away."""


class WarningCache(set[str]):
    """Says each thing once."""

    def warn(self, message: str, stacklevel: int = 5, **kwargs: Any) -> None:
        """Warn on rank 0, unless this was said before."""
        if message not in self:
            self.add(message)
            rank_zero_warn(message, stacklevel=stacklevel, **kwargs)


def disable_possible_user_warnings(module: str = "") -> None:
    """Do not show `PossibleUserWarning`s, of one module or (default) of all."""
    warnings.filterwarnings("ignore", module=module, category=PossibleUserWarning)


@rank_zero_only
def rank_zero_debug(*args: Any, stacklevel: int = 4, **kwargs: Any) -> None:
    """Write a debug line on rank 0."""
    logging.getLogger(__name__).debug(*args, stacklevel=stacklevel, **kwargs)
