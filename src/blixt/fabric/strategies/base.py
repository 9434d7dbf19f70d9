"""What a strategy does for both a hand-written loop and the Trainer."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.distributed.distributed_c10d import Store

from blixt.fabric.cluster import World


class Strategy(ABC):
    """Prepares modules for a world of processes and does what depends on how they are shared."""

    name: str

    def connect(self, world: World, backend: str) -> None:  # noqa: B027 - nothing to do is a fine default
        """Join the other processes."""

    def disconnect(self) -> None:  # noqa: B027
        """Leave them."""

    def side_channel(self) -> Store | None:
        """A store all processes reach, for agreements outside of collectives; None for one process."""
        return None

    @abstractmethod
    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module to call in the forward pass."""

    def no_sync(self, module: nn.Module) -> AbstractContextManager[Any]:
        """A context in which backward keeps gradients to this process."""
        return nullcontext()

    def sync_gradients(self, parameters: Iterable[nn.Parameter]) -> None:  # noqa: B027
        """Average gradients that were kept to this process."""

    def clip_norm(
        self, parameters: Iterable[nn.Parameter], max_norm: float, norm_type: float, error_if_nonfinite: bool
    ) -> torch.Tensor:
        """Scale gradients so that their total norm is at most `max_norm`; returns the norm before."""
        return nn.utils.clip_grad_norm_(
            parameters, max_norm, norm_type=norm_type, error_if_nonfinite=error_if_nonfinite
        )

    def clip_value(self, parameters: Iterable[nn.Parameter], clip_value: float) -> None:
        """Clamp every gradient to [-clip_value, clip_value]."""
        nn.utils.clip_grad_value_(parameters, clip_value)
