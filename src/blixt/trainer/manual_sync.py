"""Gradients of a manual optimisation that several processes share."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import torch.distributed as dist
from torch import nn

from blixt.fabric import Fabric


class ManualSync:
    """Averages gradients after each backward of a manual step, instead of DDP's wrapper.

    DDP expects that backward follows the forward pass that it watches; in a manual step backward runs inside
    of it, as often as the user likes. What was averaged before stays as it is when it is averaged again, so
    gathering gradients over several backwards is right, too.

    Args:
        fabric: The processes; all begin with the weights of rank 0.
        module: Whose gradients.
    """

    def __init__(self, fabric: Fabric, module: nn.Module) -> None:
        self._fabric = fabric
        self._module = module
        self._on = True
        for tensor in [*module.parameters(), *module.buffers()]:
            cast("Any", dist).broadcast(tensor.detach(), 0)

    def after_backward(self) -> None:
        """Average what this backward may have changed."""
        if self._on:
            wanted = [parameter for parameter in self._module.parameters() if parameter.requires_grad]
            self._fabric.strategy.sync_gradients(wanted)

    @contextmanager
    def off(self) -> Generator[None]:
        """Inside, gradients stay with this process."""
        before, self._on = self._on, False
        try:
            yield
        finally:
            self._on = before
