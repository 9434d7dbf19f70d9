"""Functions that torch.compile calls and does not look into, at no cost where nothing is compiled.

`torch.compiler.disable` puts a wrapper around a function, which takes longer than a short function itself, in
every call. What its wrapper arranges at each call is written on the function here, once.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

F = TypeVar("F", bound=Callable[..., Any])


def untraced(function: F) -> F:
    """`function`, at which a compiled caller breaks its graph; neither it nor what it calls is compiled.

    Args:
        function: Written in Python; it stays the same object.
    """
    frames: Any = cast("Any", torch)._C._dynamo.eval_frame
    skip = frames._FrameAction.SKIP
    frames.set_code_exec_strategy(cast("Any", function).__code__, frames._FrameExecStrategy(skip, skip))
    marks: dict[str, Any] = vars(function)
    marks["_torchdynamo_disable"] = True  # callers that are being compiled look for it
    marks["_torchdynamo_disable_msg"] = "it is kept out of compiled graphs"
    marks["_torchdynamo_disable_recursive"] = True
    return function
