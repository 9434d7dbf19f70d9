"""What one training batch does, decided before the first one: automatic or manual, clipping, closure."""

import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
from torch.optim import LBFGS, Optimizer

from blixt.fabric import ConfigError, Fabric
from blixt.fabric.clearing import zero_grad_of
from blixt.fabric.strategies import Strategy
from blixt.trainer.config import TrainerConfig
from blixt.trainer.hooks import HookPlan, overridden
from blixt.trainer.losses import explain_backward, extras, loss_in
from blixt.trainer.manual_step import ManualStep
from blixt.trainer.module import Module
from blixt.trainer.optimizer_handle import TrainerOptimizer, refuse_scaled_search
from blixt.trainer.optimizers import NoOptimizer
from blixt.trainer.progress import Counters
from blixt.trainer.step_kind import NoSync, RunBatch, Step, StepOutput, no_context, nothing
from blixt.trainer.weighting import TokenWeights


def make_step(
    module: Module,
    fabric: Fabric,
    optimizers: list[TrainerOptimizer],
    hooks: HookPlan,
    config: TrainerConfig,
    counters: Counters,
    forward: Callable[..., Any],
    no_sync: NoSync | None,
) -> Step:
    """The step for this module, these optimizers and this configuration.

    Args:
        module: What is trained.
        fabric: Devices, precision and strategy.
        optimizers: Of the module.
        hooks: Of module and callbacks.
        config: The trainer's arguments.
        counters: Advanced by manual optimisation.
        forward: `training_step`, as strategy and precision want it called.
        no_sync: Makes a context in which backward keeps gradients to this process; None for one process.

    Raises:
        ConfigError: When the number of optimizers, or an argument, does not fit the kind of optimisation.
    """
    if not module.automatic_optimization:
        _check_manual(config)
        return ManualStep(forward, no_sync, optimizers, hooks, counters)
    if len(optimizers) > 1:
        reason = f"{len(optimizers)} optimizers need an order that only you know"
        raise ConfigError("configure_optimizers()", "several", reason, "Set automatic_optimization = False")
    if isinstance(optimizers[0].optimizer, NoOptimizer):
        warnings.warn("configure_optimizers returned None: this fit moves no weights.", stacklevel=2)
    return AutomaticStep(forward, no_sync, module, fabric, optimizers[0], hooks, config, counters)


def _check_manual(config: TrainerConfig) -> None:
    if config.gradient_clip_val:
        name, value = "gradient_clip_val", config.gradient_clip_val
    elif config.accumulate_grad_batches != 1:
        name, value = "accumulate_grad_batches", config.accumulate_grad_batches
    else:
        return
    reason = "with automatic_optimization = False the optimizer is yours"
    raise ConfigError(f"Trainer({name})", value, reason, "Do it in training_step, and leave it out here")


class AutomaticStep:
    """Forward, `zero_grad` at the beginning of a window, backward; clip and step at its end.

    Optimizers that want a closure, and modules that override `optimizer_step`, get one.
    """

    def __init__(
        self,
        forward: Callable[..., StepOutput],
        no_sync: NoSync | None,
        module: Module,
        fabric: Fabric,
        optimizer: TrainerOptimizer,
        hooks: HookPlan,
        config: TrainerConfig,
        counters: Counters,
    ) -> None:
        self._forward = forward
        self._no_sync = no_sync
        self._module = module
        self._fabric = fabric
        self._handle = optimizer
        self._optimizer = optimizer.optimizer
        self._clear = zero_grad_of(self._optimizer)
        self._counters = counters
        self._config = config
        self._accumulate = config.accumulate_grad_batches
        self._window_open = False
        self._weights: TokenWeights | None = None
        self._loss: torch.Tensor | None = None
        self._held: Callable[[], torch.Tensor | None] = nothing
        self._before_zero_grad = hooks.of("on_before_zero_grad")
        self._before_backward = hooks.of("on_before_backward")
        self._after_backward = hooks.of("on_after_backward")
        self._before_step = hooks.of("on_before_optimizer_step")
        self._wants_outputs = bool(hooks.of("on_train_batch_end"))
        self._own_zero_grad = overridden(module, "optimizer_zero_grad", Module)
        self._backward: Callable[[torch.Tensor], None] = fabric.backward
        if overridden(module, "backward", Module):
            self._backward = self._module_backward
        self._own_backward = self._backward != fabric.backward
        self._own_clip = overridden(module, "configure_gradient_clipping", Module)
        self._clips = self._own_clip or bool(config.gradient_clip_val)
        own_step = overridden(module, "optimizer_step", Module)
        self._closure_form = own_step or isinstance(self._optimizer, LBFGS)
        if isinstance(self._optimizer, LBFGS) and self._accumulate != 1:
            reason = "LBFGS computes the loss several times a step, which it can from one batch only"
            fix = "Use 1, and larger batches"
            raise ConfigError("Trainer(accumulate_grad_batches)", self._accumulate, reason, fix)
        if fabric.scaler is not None:
            refuse_scaled_search(self._optimizer)
        # Only when nothing at all happens around the step is it called without its handle.
        own_strategy_step = type(fabric.strategy).step is not Strategy.step
        self._direct = fabric.scaler is None and not own_strategy_step
        optimizer.attach(self._before_update, nothing, no_sync or no_context)

    def let_go(self) -> torch.Tensor | None:
        """The loss of the newest batch of this epoch that had one; from now on it is not kept here."""
        loss = self._held()
        loss = self._loss if loss is None else loss
        self.forget()
        if self._weights is not None:
            self._weights.check()
        return loss

    def forget(self) -> None:
        """Keep no loss, nor the graph behind it."""
        self._loss, self._held = None, nothing

    def begin_epoch(self) -> RunBatch:
        """A callback may have changed over how many batches gradients are gathered."""
        self._accumulate = self._config.accumulate_grad_batches
        self._clips = self._own_clip or bool(self._config.gradient_clip_val)
        self._clear = zero_grad_of(self._optimizer)
        self._window_open = False
        self.forget()
        return self._plain_run() if self._is_plain() else self._run

    def flush(self) -> bool:
        """Step with what a window that ended early has gathered; whether there was anything."""
        if not self._window_open:
            return False
        self._window_open = False
        self._fabric.strategy.sync_gradients(self._module.parameters())
        self._handle.step()
        return True

    def _is_plain(self) -> bool:
        """Whether a batch is forward, zero_grad, backward and step, with nobody in between."""
        hooks = self._before_zero_grad or self._before_backward or self._after_backward or self._before_step
        own = self._own_zero_grad or self._own_backward or self._own_clip or self._closure_form
        default_backward = type(self._fabric.strategy).backward is Strategy.backward
        return (
            not (hooks or own or self._clips) and self._direct and default_backward and self._accumulate == 1
        )

    def _plain_run(self) -> RunBatch:
        """The shortest way through a batch: nothing is looked up that is known before."""
        forward, clear, optimizer, general = self._forward, self._clear, self._optimizer, self._after_forward
        wants_outputs = self._wants_outputs
        held: Any = None

        def run(args: tuple[Any, ...], boundary: bool) -> Any:
            nonlocal held
            loss = forward(*args)
            if not isinstance(loss, torch.Tensor):
                return general(loss)
            # As in a loop by hand a loss is let go only when the next one is there: what gathers gradients
            # for a parameter is then kept from step to step, and not made anew.
            held = loss
            clear()
            try:
                loss.backward()  # pyright: ignore[reportUnknownMemberType] - torch leaves it untyped
            except RuntimeError as error:
                explain_backward(loss, error)
                raise
            optimizer.step()
            return {"loss": loss.detach()} if wants_outputs else None

        def newest() -> torch.Tensor | None:
            return held

        self._held = newest
        return run

    def _after_forward(self, output: Any) -> Any:
        """The rest of a batch whose window ends with it."""
        outputs = self._backward_of(output)
        self._window_open = False
        self._update(outputs)
        return outputs

    def _run(self, args: tuple[Any, ...], boundary: bool) -> Any:
        if not boundary:
            if self._no_sync is None:
                return self._backward_of(self._forward(*args))
            with self._no_sync():
                return self._backward_of(self._forward(*args))
        if self._closure_form:
            return self._step_with_closure(args)
        outputs = self._backward_of(self._forward(*args))
        self._window_open = False
        self._update(outputs)
        return outputs

    def _update(self, outputs: Any) -> None:
        if self._direct:
            if self._before_step or self._clips or self._weights is not None:
                self._before_update(self._optimizer)
            self._optimizer.step()
        elif outputs or self._fabric.scaler is None:
            self._handle.step()

    def _backward_of(self, output: Any) -> Any:
        loss = shown = loss_in(output)
        if loss is not None and (self._accumulate != 1 or output is not loss):
            loss, shown = self._share_of(loss, output)
        if not self._window_open:
            self._window_open = True
            if self._before_zero_grad or self._own_zero_grad:
                self._zero_grad()
            else:
                self._clear()
        if loss is None:
            self._refuse_skipping()
            return {}
        for hook in self._before_backward:
            hook(loss)
        try:
            self._backward(loss)
        except RuntimeError as error:
            explain_backward(loss, error)
            raise
        for hook in self._after_backward:
            hook()
        self._loss = shown
        if not self._wants_outputs:
            return _SOME
        detached = cast("torch.Tensor", shown).detach()
        return {"loss": detached} if output is shown else {**extras(output), "loss": detached}

    def _share_of(self, loss: torch.Tensor, output: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss as it counts in its window of batches, and as others see it."""
        if output is not loss and "weight" in output:
            if self._weights is None:
                self._weights = TokenWeights(self._fabric)
            weighed = self._weights.weigh(loss, output["weight"])
            self._counters.add_tokens(output["weight"])
            return weighed, loss
        share = loss if self._accumulate == 1 else loss / self._accumulate
        return share, share

    def _module_backward(self, loss: torch.Tensor) -> None:
        scaler = self._fabric.scaler
        self._module.backward(loss if scaler is None else scaler.scale(loss))

    def _zero_grad(self) -> None:
        for hook in self._before_zero_grad:
            hook(self._optimizer)
        if self._own_zero_grad:
            counters = self._counters
            self._module.optimizer_zero_grad(counters.epoch, counters.batch, self._optimizer)
        else:
            self._clear()

    def _before_update(self, optimizer: Optimizer) -> None:
        if self._weights is not None:
            self._weights.divide(optimizer)
        for hook in self._before_step:
            hook(optimizer)
        if self._clips:
            config = self._config
            self._module.configure_gradient_clipping(
                optimizer, config.gradient_clip_val, config.gradient_clip_algorithm
            )

    def _step_with_closure(self, args: tuple[Any, ...]) -> Any:
        box: list[Any] = []

        def closure() -> Any:
            with torch.enable_grad():
                box[:] = [self._backward_of(self._forward(*args))]
            # The optimizer may call again to look around: each call is a window of its own then.
            self._window_open = False
            return box[0].get("loss")

        self._wants_outputs = True
        counters = self._counters
        self._module.optimizer_step(counters.epoch, counters.batch, cast("Any", self._handle), closure)
        if not box:
            raise ConfigError(
                "optimizer_step(optimizer_closure)",
                "...",
                "nobody called it, so there was neither a loss nor a gradient",
                "Call optimizer_closure() in optimizer_step, or pass it to optimizer.step",
            )
        return box[0]

    def _refuse_skipping(self) -> None:
        if self._fabric.world_size > 1:
            raise ConfigError(
                "training_step()",
                None,
                "a rank that skips a batch would leave the others waiting",
                "Return a loss that is zero, such as 0 * sum(p.sum() for p in parameters)",
            )


_SOME: dict[str, Any] = {"loss": None}
"""What a batch gives whose outputs nobody looks at."""
