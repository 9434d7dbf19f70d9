"""What one training batch does, decided before the first one: automatic or manual, clipping, closure."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import LBFGS, Optimizer

from blixt.fabric import ConfigError, Fabric
from blixt.trainer.config import TrainerConfig
from blixt.trainer.hooks import HookPlan, overridden
from blixt.trainer.module import Module
from blixt.trainer.progress import Counters

StepOutput = torch.Tensor | dict[str, Any] | None
"""What `training_step` may return: the loss, a dict that holds it under "loss", or None to skip the batch."""


class Step(Protocol):
    """Runs `training_step` and, at the end of a window of batches, the optimizer."""

    def __call__(self, args: tuple[Any, ...], boundary: bool) -> Any:
        """Run one batch; `boundary` says that the window ends with it. Returns what batch hooks see."""
        ...

    def flush(self) -> bool:
        """Step with gradients of a window that ended early; whether there were any."""
        ...


class _TrainingStep(nn.Module):
    """Makes `training_step` the forward pass, because that is what DDP watches."""

    def __init__(self, module: Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any) -> Any:
        return self.module.training_step(*args)


def make_step(
    module: Module,
    fabric: Fabric,
    optimizers: list[Optimizer],
    hooks: HookPlan,
    config: TrainerConfig,
    counters: Counters,
) -> Step:
    """The step for this module, these optimizers and this configuration."""
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext
    forward: Callable[..., Any] = module.training_step
    if fabric.world_size > 1:
        wrapped = fabric.strategy.wrap(_TrainingStep(module), fabric.device)
        forward = wrapped

        def no_sync() -> AbstractContextManager[Any]:
            return fabric.strategy.no_sync(wrapped)

    forward = fabric.precision.wrap(forward, fabric.device)
    if not module.automatic_optimization:
        _check_manual(config)
        return ManualStep(forward, optimizers, hooks, counters)
    if len(optimizers) > 1:
        reason = f"{len(optimizers)} optimizers need an order that only you know"
        raise ConfigError("configure_optimizers()", "several", reason, "Set automatic_optimization = False")
    if not optimizers:
        reason = "there is nothing to step"
        raise ConfigError("configure_optimizers()", None, reason, "Return an optimizer, or train manually")
    return AutomaticStep(forward, no_sync, module, fabric, optimizers[0], hooks, config, counters)


def _check_manual(config: TrainerConfig) -> None:
    usual = {"gradient_clip_val": None, "accumulate_grad_batches": 1}
    for name, default in usual.items():
        value = getattr(config, name)
        if value != default:
            reason = "with automatic_optimization = False the optimizer is yours"
            raise ConfigError(
                f"Trainer({name})", value, reason, "Do it in training_step, and leave it out here"
            )


class ManualStep:
    """`training_step` does everything; optimizer steps are counted as they happen."""

    def __init__(
        self, forward: Callable[..., Any], optimizers: list[Optimizer], hooks: HookPlan, counters: Counters
    ) -> None:
        self._forward = forward
        before = hooks.of("on_before_optimizer_step")

        def count(*_: Any) -> None:
            counters.global_step += 1

        def announce(optimizer: Optimizer, *_: Any) -> None:
            for hook in before:
                hook(optimizer)

        for optimizer in optimizers:
            if before:
                optimizer.register_step_pre_hook(announce)
            optimizer.register_step_post_hook(count)

    def __call__(self, args: tuple[Any, ...], boundary: bool) -> Any:
        """Run one batch."""
        output = self._forward(*args)
        return {"loss": output.detach()} if isinstance(output, torch.Tensor) else output

    def flush(self) -> bool:
        """Nothing is kept between batches."""
        return False


class AutomaticStep:
    """Forward, `zero_grad` at the beginning of a window, backward; clip and step at its end.

    Optimizers that want a closure, and modules that override `optimizer_step`, get one.
    """

    def __init__(
        self,
        forward: Callable[..., StepOutput],
        no_sync: Callable[[], AbstractContextManager[Any]],
        module: Module,
        fabric: Fabric,
        optimizer: Optimizer,
        hooks: HookPlan,
        config: TrainerConfig,
        counters: Counters,
    ) -> None:
        self._forward = forward
        self._no_sync = no_sync
        self._module = module
        self._fabric = fabric
        self._optimizer = optimizer
        self._counters = counters
        self._accumulate = config.accumulate_grad_batches
        self._window_open = False
        self._before_zero_grad = hooks.of("on_before_zero_grad")
        self._before_backward = hooks.of("on_before_backward")
        self._after_backward = hooks.of("on_after_backward")
        self._before_step = hooks.of("on_before_optimizer_step")
        self._wants_outputs = bool(hooks.of("on_train_batch_end"))
        self._own_zero_grad = overridden(module, "optimizer_zero_grad", Module)
        self._backward = module.backward if overridden(module, "backward", Module) else None
        self._clip = self._choose_clip(config)
        own_step = overridden(module, "optimizer_step", Module)
        self._closure_form = own_step or isinstance(optimizer, LBFGS)

    def __call__(self, args: tuple[Any, ...], boundary: bool) -> Any:
        """Run one batch."""
        if not boundary:
            with self._no_sync():
                return self._forward_backward(args)
        if self._closure_form:
            return self._step_with_closure(args)
        outputs = self._forward_backward(args)
        if self._window_open:
            self._before_update()
            self._optimizer.step()
            self._window_open = False
        return outputs

    def flush(self) -> bool:
        """Step with what a window that ended early has gathered."""
        if not self._window_open:
            return False
        self._fabric.strategy.sync_gradients(self._module.parameters())
        self._before_update()
        self._optimizer.step()
        self._window_open = False
        return True

    def _forward_backward(self, args: tuple[Any, ...]) -> Any:
        output = self._forward(*args)
        loss = output["loss"] if isinstance(output, dict) else output
        if loss is None:
            self._refuse_skipping()
            return None
        if self._accumulate != 1:
            loss = loss / self._accumulate
        if not self._window_open:
            self._zero_grad()
            self._window_open = True
        for hook in self._before_backward:
            hook(loss)
        if self._backward is None:
            self._fabric.backward(loss)
        else:
            scaler = self._fabric.scaler
            self._backward(loss if scaler is None else scaler.scale(loss))
        for hook in self._after_backward:
            hook()
        if not self._wants_outputs:
            return None
        extras = output if isinstance(output, dict) else {}
        return {**extras, "loss": loss.detach()}

    def _zero_grad(self) -> None:
        for hook in self._before_zero_grad:
            hook(self._optimizer)
        if self._own_zero_grad:
            counters = self._counters
            self._module.optimizer_zero_grad(counters.epoch, counters.batch, self._optimizer)
        else:
            self._optimizer.zero_grad()

    def _before_update(self) -> None:
        for hook in self._before_step:
            hook(self._optimizer)
        if self._clip is not None:
            self._clip()

    def _step_with_closure(self, args: tuple[Any, ...]) -> Any:
        box: list[Any] = [None]

        def closure() -> Any:
            box[0] = self._forward_backward(args)
            if self._window_open:
                self._before_update()
                # The optimizer may call again to look around: each call is a window of its own then.
                self._window_open = False
            return None if box[0] is None else box[0]["loss"]

        self._wants_outputs = True
        counters = self._counters
        self._module.optimizer_step(counters.epoch, counters.batch, self._optimizer, closure)
        return box[0]

    def _choose_clip(self, config: TrainerConfig) -> Callable[[], None] | None:
        own = overridden(self._module, "configure_gradient_clipping", Module)
        if config.gradient_clip_val is None and not own:
            return None
        bound, algorithm = config.gradient_clip_val, config.gradient_clip_algorithm

        def clip() -> None:
            if self._fabric.scaler is not None:
                vars(self._optimizer)["unscale"]()
            self._module.configure_gradient_clipping(self._optimizer, bound, algorithm)

        return clip

    def _refuse_skipping(self) -> None:
        if self._fabric.world_size > 1:
            raise ConfigError(
                "training_step()",
                None,
                "a rank that skips a batch would leave the others waiting",
                "Return a loss that is zero, such as 0 * sum(p.sum() for p in parameters)",
            )
