"""Modules that `torch.compile` has wrapped."""

import sys
from collections.abc import Callable
from typing import Any

from torch import nn


def unwrap_compiled(module: Any) -> tuple[Any, Callable[[nn.Module], Any] | None]:
    """A module without `torch.compile`, and a function that compiles another in the same way.

    Returns:
        (module, None) for anything that is not compiled.
    """
    compiler = sys.modules.get("torch._dynamo.eval_frame")  # importing it costs a second
    if compiler is None or not isinstance(module, compiler.OptimizedModule):
        return module, None
    return module._orig_mod, module.dynamo_ctx
