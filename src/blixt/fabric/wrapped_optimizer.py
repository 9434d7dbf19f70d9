"""What `Fabric.setup` makes of an optimizer."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.optim import LBFGS, Optimizer

from blixt.fabric.clearing import zero_grad_of
from blixt.fabric.errors import ConfigError
from blixt.fabric.strategies import Strategy


class FabricOptimizer:
    """An optimizer whose `step` goes through strategy and gradient scaler; still an instance of its class.

    Everything else, state and parameter groups above all, is that of the optimizer that was set up, so
    schedulers may have been made with either.

    Attributes:
        optimizer: The one that was set up.
        module: The module that was set up together with it, or None.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        strategy: Strategy,
        scaler: torch.amp.GradScaler | None = None,
        callbacks: list[Any] | None = None,
        module: nn.Module | None = None,
    ) -> None:
        if scaler is not None and isinstance(optimizer, LBFGS):
            reason = "it evaluates the loss several times a step, which a gradient scaler cannot follow"
            raise ConfigError("setup(optimizer)", "LBFGS", reason, "Use precision='bf16-mixed' or '32-true'")
        own = vars(self)
        own["optimizer"] = optimizer
        own["module"] = module
        own["zero_grad"] = _zero_grad_of(optimizer)
        own["_strategy"] = strategy
        own["_scaler"] = scaler
        own["_callbacks"] = callbacks if callbacks is not None else []
        if scaler is not None:
            own["unscale"] = lambda: scaler.unscale_(optimizer)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of the optimizer that was set up."""
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.optimizer.param_groups = groups

    @property
    def state(self) -> Any:
        """That of the optimizer that was set up."""
        return self.optimizer.state

    @state.setter
    def state(self, state: Any) -> None:
        self.optimizer.state = state

    @property
    def defaults(self) -> dict[str, Any]:
        """Those of the optimizer that was set up."""
        return self.optimizer.defaults

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step. With a gradient scaler it is left out when gradients overflowed.

        Args:
            closure: Computes the loss and its gradients once more.

        Returns:
            What the optimizer, or with a scaler the closure, returned.
        """
        scaler = self._scaler
        if scaler is None:
            output = self._strategy.step(self.optimizer, closure)
        else:
            output = closure() if closure is not None else None
            scaler.step(self.optimizer)
            scaler.update()
        for callback in self._callbacks:
            hook = getattr(callback, "on_after_optimizer_step", None)
            if callable(hook):
                hook(strategy=self._strategy, optimizer=self.optimizer)
        return output

    def state_dict(self) -> dict[str, Any]:
        """The state, whole, whichever way the strategy keeps it; call it on all processes."""
        if self.module is None:
            return self.optimizer.state_dict()
        return self._strategy.optimizer_state(self.module, self.optimizer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What `state_dict` gave."""
        if self.module is None:
            self.optimizer.load_state_dict(state_dict)
        else:
            self._strategy.load_optimizer_state(self.module, self.optimizer, state_dict)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """To the optimizer that was set up."""
        self.optimizer.add_param_group(param_group)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "optimizer" not in vars(self):
            raise AttributeError(name)
        return getattr(self.optimizer, name)

    def __repr__(self) -> str:
        return f"Fabric{self.optimizer!r}"

    def __reduce__(self) -> tuple[Callable[[Optimizer], Optimizer], tuple[Optimizer]]:
        """Copies and pickles are of the optimizer itself: they belong to no Fabric."""
        return _itself, (self.optimizer,)


def wrap_optimizer(
    optimizer: Optimizer,
    strategy: Strategy,
    scaler: torch.amp.GradScaler | None = None,
    callbacks: list[Any] | None = None,
    module: nn.Module | None = None,
) -> Any:
    """A `FabricOptimizer` that also is an instance of the class of `optimizer`."""
    made = object.__new__(_class_for(type(optimizer)))
    FabricOptimizer.__init__(made, optimizer, strategy, scaler, callbacks, module)
    return made


@cache
def _class_for(base: type[Optimizer]) -> type[Any]:
    return type(f"Fabric{base.__name__}", (FabricOptimizer, base), {})


def _zero_grad_of(optimizer: Optimizer) -> Callable[..., None]:
    """Its `zero_grad`, taking torch's `set_to_none` where it calls that `set_grads_to_None`, as apex does."""
    own = zero_grad_of(optimizer)
    if "set_grads_to_None" not in inspect.signature(own).parameters:
        return own

    def zero_grad(set_to_none: bool | None = None) -> None:
        own(**({} if set_to_none is None else {"set_grads_to_None": set_to_none}))

    return zero_grad


def _itself(optimizer: Optimizer) -> Optimizer:
    return optimizer


def unwrap_optimizer(optimizer: Any) -> Any:
    """The optimizer that was set up; any other object as it is."""
    return optimizer.optimizer if isinstance(optimizer, FabricOptimizer) else optimizer
