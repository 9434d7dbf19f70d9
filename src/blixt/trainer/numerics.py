"""Which algorithms torch may use."""

import os
import warnings
from typing import Literal

import torch


def set_numerics(deterministic: bool | Literal["warn"] | None, benchmark: bool | None) -> None:
    """Tell torch; what is None stays as it is.

    Args:
        deterministic: Only use deterministic algorithms; "warn" where there are none.
        benchmark: Let cuDNN try its algorithms and keep the fastest one, which differs from run to run.
    """
    if deterministic and benchmark:
        warnings.warn(
            "Trainer(deterministic, benchmark=True): the algorithm that wins the race differs between runs.",
            stacklevel=3,
        )
    if deterministic is not None:
        torch.use_deterministic_algorithms(bool(deterministic), warn_only=deterministic == "warn")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        benchmark = bool(benchmark)
    if benchmark is not None:
        torch.backends.cudnn.benchmark = benchmark
