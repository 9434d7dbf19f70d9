"""What `torch.compile` shall leave alone."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., Any])


def eager(function: Function) -> Function:
    """Keep a function out of compiled graphs, because its loops follow the batch or a kernel lacks a fake."""
    return cast("Any", torch.compiler).disable(function)
