"""Every process holds the whole model; gradients are averaged while backward runs."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from blixt.fabric.strategies.base import Launcher, NoSync
from blixt.fabric.strategies.group import GroupStrategy

CommHook = Callable[[Any, Any], torch.futures.Future[torch.Tensor]]


class DDPStrategy(GroupStrategy):
    """torch's DistributedDataParallel.

    Args:
        find_unused_parameters: Allow a forward pass to leave parameters out, at some cost per step.
        timeout_s: How long a collective waits for the other processes before it fails.
        process_group_backend: "gloo", "nccl", ...; None takes the one that serves the accelerator.
        launcher: How processes are made when nobody made them yet.
        ddp_comm_state: First argument of the communication hook.
        ddp_comm_hook: Replaces the averaging of a bucket of gradients, see torch's
            `register_comm_hook`; torch has some in `torch.distributed.algorithms.ddp_comm_hooks`.
        ddp_comm_wrapper: Wraps the hook, such as torch's `fp16_compress_wrapper`.
        checkpoint_io: What reads and writes checkpoint files.
        layer_sync: What makes layers see the batches of all processes.
        ddp_options: Everything else that `DistributedDataParallel` takes: `static_graph`,
            `gradient_as_bucket_view`, `bucket_cap_mb`, `broadcast_buffers`, ...
    """

    name = "ddp"

    def __init__(
        self,
        find_unused_parameters: bool = False,
        timeout_s: float | timedelta = 1800.0,
        *,
        process_group_backend: str | None = None,
        launcher: Launcher | None = None,
        ddp_comm_state: object | None = None,
        ddp_comm_hook: CommHook | None = None,
        ddp_comm_wrapper: Callable[[CommHook], CommHook] | None = None,
        checkpoint_io: Any = None,
        layer_sync: Any = None,
        **ddp_options: Any,
    ) -> None:
        super().__init__(
            timeout_s=timeout_s,
            process_group_backend=process_group_backend,
            launcher=launcher,
            checkpoint_io=checkpoint_io,
            layer_sync=layer_sync,
        )
        _refuse_unknown(ddp_options)
        self.find_unused_parameters = find_unused_parameters
        self.ddp_options = ddp_options
        self.ddp_comm_state = ddp_comm_state
        self.ddp_comm_hook = (
            ddp_comm_wrapper(ddp_comm_hook) if ddp_comm_wrapper and ddp_comm_hook else ddp_comm_hook
        )
        self._forwards: dict[int, tuple[nn.Module, nn.Module]] = {}

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module inside DistributedDataParallel; itself when nothing in it is trained."""
        trains = any(parameter.requires_grad for parameter in module.parameters())
        if not trains or self.world.world_size == 1:
            return module
        wrapped = DistributedDataParallel(
            module,
            device_ids=[device] if device.type == "cuda" else None,
            find_unused_parameters=self.find_unused_parameters,
            **self.ddp_options,
        )
        if self.ddp_comm_hook is not None:
            cast("Any", wrapped).register_comm_hook(self.ddp_comm_state, self.ddp_comm_hook)
        return wrapped

    def forward_of(
        self, module: nn.Module, name: str, device: torch.device
    ) -> tuple[Callable[..., Any], NoSync]:
        """`module.<name>` as the forward pass of one wrapper a module, made at the first request."""
        kept = self._forwards.get(id(module))
        if kept is None or kept[0] is not module:
            kept = (module, self.wrap(Methods(module), device))
            self._forwards = {id(module): kept}
        wrapped = kept[1]
        if not isinstance(wrapped, DistributedDataParallel):
            return getattr(module, name), nullcontext

        def call(*args: Any, **kwargs: Any) -> Any:
            return wrapped(name, *args, **kwargs)

        return call, wrapped.no_sync

    def no_sync(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Backward inside leaves gradients as they are on this process."""
        if isinstance(module, DistributedDataParallel):
            return module.no_sync()
        return super().no_sync(module)

    def sync_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average gradients one by one: for the rare window that ends where nobody could foresee it."""
        if self.world.world_size == 1:
            return
        for parameter in parameters:
            if parameter.grad is not None:
                cast("Any", dist).all_reduce(parameter.grad)
                parameter.grad /= dist.get_world_size()

    def disconnect(self) -> None:
        """Leave the group and let go of the wrapped modules, whose reducers hold on to it."""
        self._forwards.clear()
        super().disconnect()


class Methods(nn.Module):
    """Makes any method of a module a forward pass, because that is what wrappers watch."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call the method `name`."""
        return getattr(self.module, name)(*args, **kwargs)


def _refuse_unknown(options: dict[str, Any]) -> None:
    from inspect import signature

    from blixt.fabric.errors import reject_unknown

    own = ("find_unused_parameters", "timeout_s", "process_group_backend", "launcher", "ddp_comm_state")
    torchs = [
        name for name in signature(cast("Any", DistributedDataParallel).__init__).parameters if name != "self"
    ]
    known = {*torchs, *own, "ddp_comm_hook", "ddp_comm_wrapper", "checkpoint_io", "layer_sync"}
    reject_unknown("DDPStrategy", (name for name in options if name not in known), known)
