"""Say and do things once, however many processes train together."""

import functools
import logging
import os
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

P = ParamSpec("P")
T = TypeVar("T")
D = TypeVar("D")

log = logging.getLogger("blixt")

_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK", "OMPI_COMM_WORLD_RANK")


class PossibleUserWarning(UserWarning):
    """Something looks like a mistake and may be meant."""


def current_rank() -> int:
    """The rank of this process: what Fabric settled on, else what the environment says, else 0."""
    if rank_zero_only.rank is not None:
        return rank_zero_only.rank
    for name in _RANK_VARIABLES:
        text = os.environ.get(name, "")
        if text.isdecimal():
            return int(text)
    return 0


class _RankZeroOnly(Protocol):
    """The decorator, with the rank it goes by."""

    rank: int | None

    @overload
    def __call__(self, function: Callable[P, T]) -> Callable[P, T | None]: ...
    @overload
    def __call__(self, function: Callable[P, T], default: D) -> Callable[P, T | D]: ...
    def __call__(self, function: Any, default: Any = None) -> Any:
        """Wrap `function`."""
        ...


def _only(function: Callable[..., Any], default: Any = None) -> Callable[..., Any]:
    @functools.wraps(function)
    def on_rank_zero(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) if current_rank() == 0 else default

    return on_rank_zero


rank_zero_only = cast("_RankZeroOnly", _only)
"""Decorator: the function runs on rank 0 only; elsewhere it returns `default` (None).

The attribute `rank` is what it goes by. Fabric sets it when it knows; None asks the environment.
"""
rank_zero_only.rank = None


@rank_zero_only
def rank_zero_debug(*args: Any, stacklevel: int = 4, **kwargs: Any) -> None:
    """`logging.debug` on rank 0, under the logger "blixt"."""
    log.debug(*args, stacklevel=stacklevel, **kwargs)


@rank_zero_only
def rank_zero_info(*args: Any, stacklevel: int = 4, **kwargs: Any) -> None:
    """`logging.info` on rank 0, under the logger "blixt"."""
    log.info(*args, stacklevel=stacklevel, **kwargs)


@rank_zero_only
def rank_zero_warn(message: str | Warning, stacklevel: int = 4, **kwargs: Any) -> None:
    """`warnings.warn` on rank 0."""
    warnings.warn(message, stacklevel=stacklevel, **kwargs)


def rank_zero_deprecation(message: str | Warning, stacklevel: int = 5, **kwargs: Any) -> None:
    """A `DeprecationWarning` on rank 0."""
    rank_zero_warn(message, stacklevel=stacklevel, category=DeprecationWarning, **kwargs)
