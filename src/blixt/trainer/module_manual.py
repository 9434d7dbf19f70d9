"""What `training_step` calls when the module optimises by itself, and freezing."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Self, cast

import torch
from torch import nn
from torch.optim import Optimizer

from blixt.fabric import ConfigError, Fabric
from blixt.trainer.attached import TrainerView


class ManualOptimization(nn.Module):
    """Optimizers, gradients and frozen parameters, from within a step."""

    automatic_optimization: bool = True
    """False hands `zero_grad`, `manual_backward` and `step` to `training_step`."""

    _fabric: Fabric | None = None
    _fabric_optimizers: tuple[Optimizer, ...] = ()
    _param_requires_grad_state: Mapping[nn.Parameter, bool] = MappingProxyType({})

    @property
    def _runner(self) -> TrainerView:
        return cast("Any", self).trainer

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        """The optimizer, or the list of them.

        Args:
            use_pl_optimizer: Give out those whose `step` the Trainer counts, with precision and hooks taken
                care of; False gives the bare ones.
        """
        if self._fabric is not None:
            every = list(self._fabric_optimizers)
        else:
            every = self._runner.optimizer_handles if use_pl_optimizer else self._runner.optimizers
        return every[0] if len(every) == 1 else every

    def lr_schedulers(self) -> Any:
        """The scheduler, the list of them, or None."""
        every = [config.scheduler for config in self._runner.lr_scheduler_configs]
        return every[0] if len(every) == 1 else every or None

    def manual_backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """`loss.backward(*args, **kwargs)` with the precision's scaling and the backward hooks."""
        if self._fabric is not None:
            return self._fabric.backward(loss, *args, **kwargs)
        if self.automatic_optimization:
            reason = "with automatic optimisation the Trainer calls backward itself"
            raise ConfigError("manual_backward(loss)", "...", reason, "Set automatic_optimization = False")
        hooks = self._runner.hooks
        for hook in hooks.of("on_before_backward"):
            hook(loss)
        self._runner.backward(loss, *args, **kwargs)
        for hook in hooks.of("on_after_backward"):
            hook()

    def toggle_optimizer(self, optimizer: Optimizer) -> None:
        """Let only this optimizer's parameters want gradients, until `untoggle_optimizer`.

        Parameters that were frozen before stay frozen.
        """
        wanted: dict[nn.Parameter, bool] = {}
        for other in self._bare_optimizers():
            for parameter in _parameters(other):
                wanted.setdefault(parameter, parameter.requires_grad)
                parameter.requires_grad = False
        for parameter in _parameters(optimizer):
            parameter.requires_grad = wanted.get(parameter, True)
        self._param_requires_grad_state = wanted

    def untoggle_optimizer(self, optimizer: Optimizer) -> None:
        """Let the other optimizers' parameters want gradients as they did before `toggle_optimizer`."""
        own = set(_parameters(optimizer))
        for parameter, wants in self._param_requires_grad_state.items():
            if parameter not in own:
                parameter.requires_grad = wants
        self._param_requires_grad_state = {}

    @contextmanager
    def toggled_optimizer(self, optimizer: Optimizer) -> Generator[None]:
        """Inside, only this optimizer's parameters want gradients: for GANs."""
        self.toggle_optimizer(optimizer)
        try:
            yield
        finally:
            self.untoggle_optimizer(optimizer)

    def clip_gradients(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Bound the gradients of the optimizer's parameters.

        Args:
            optimizer: Whose parameters.
            gradient_clip_val: The bound; default the Trainer's `gradient_clip_val`; 0 for none.
            gradient_clip_algorithm: "norm" of all gradients, or each "value"; default the Trainer's.

        Raises:
            ConfigError: When the Trainer was given another bound or algorithm.
        """
        if self._fabric is None:
            bound, algorithm = self._agreed_clipping(gradient_clip_val, gradient_clip_algorithm)
        else:
            bound, algorithm = gradient_clip_val, gradient_clip_algorithm or "norm"
        if algorithm not in ("norm", "value"):
            reason = "it is unknown"
            raise ConfigError(
                "clip_gradients(gradient_clip_algorithm)", algorithm, reason, "Use 'norm' or 'value'"
            )
        if not bound:
            return
        fabric = self._fabric if self._fabric is not None else self._runner.fabric
        if self._fabric is not None or not self.automatic_optimization:
            by_value = algorithm == "value"
            limits = {"clip_val": bound if by_value else None, "max_norm": None if by_value else bound}
            lenient: dict[str, Any] = {} if self._fabric is not None else {"error_if_nonfinite": False}
            fabric.clip_gradients(self, optimizer, **limits, **lenient)
        elif algorithm == "value":  # the Trainer has unscaled the gradients already
            fabric.strategy.clip_value(_parameters(optimizer), bound)
        else:
            fabric.strategy.clip_norm(_parameters(optimizer), bound, 2.0, False)

    def _agreed_clipping(self, bound: float | None, algorithm: str | None) -> tuple[float | None, str]:
        config = self._runner.config
        if config.gradient_clip_val is not None:
            pairs: tuple[tuple[str, Any, Any], ...] = (
                ("val", bound, config.gradient_clip_val),
                ("algorithm", algorithm, config.gradient_clip_algorithm),
            )
            for name, mine, trainers in pairs:
                if None not in (mine, trainers) and mine != trainers:
                    reason = f"Trainer(gradient_clip_{name}={trainers!r}) says otherwise"
                    raise ConfigError(
                        f"clip_gradients(gradient_clip_{name})", mine, reason, "Give it in one place"
                    )
        bound = config.gradient_clip_val if bound is None else bound
        return bound, (algorithm or config.gradient_clip_algorithm or "norm").lower()

    def _bare_optimizers(self) -> list[Optimizer]:
        return list(self._fabric_optimizers) if self._fabric is not None else list(self._runner.optimizers)

    def freeze(self) -> Self:
        """Stop training all parameters, and switch to evaluation."""
        self.requires_grad_(False)
        return self.eval()

    def unfreeze(self) -> Self:
        """Train all parameters, and switch to training."""
        self.requires_grad_(True)
        return self.train()


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
