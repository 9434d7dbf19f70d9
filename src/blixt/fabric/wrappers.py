"""What `Fabric.setup` gives back: the same module and optimizers, with precision taken care of."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from blixt.fabric.precision import Precision


class FabricModule(nn.Module):
    """Runs the forward pass under the chosen precision and through the strategy's wrapper.

    Attributes, methods and `state_dict` keys are those of the module that was set up.
    """

    def __init__(
        self, original: nn.Module, forward_module: nn.Module, precision: Precision, device: torch.device
    ) -> None:
        super().__init__()
        self._forward_module = forward_module
        vars(self)["_original"] = original
        vars(self)["_precision"] = precision
        vars(self)["_run"] = precision.wrap(forward_module, device)
        self.train(original.training)

    @property
    def module(self) -> nn.Module:
        """The module that was set up."""
        return vars(self)["_original"]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's forward; outputs in half precision come back as 32 bit."""
        output = self._run(*args, **kwargs)
        return output if self._precision.compute_dtype is None else self._precision.restore_output(output)

    def mark_forward_method(self, name: str) -> None:
        """Let the method `name` run like `forward`: under the precision and through the strategy."""
        method = getattr(self.module, name)

        def run(*args: Any, **kwargs: Any) -> Any:
            return self._through_forward(method, args, kwargs)

        vars(self)[name] = run

    def _through_forward(self, method: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        original = self.module
        own = vars(original).get("forward")

        def call_method(*inner_args: Any, **inner_kwargs: Any) -> Any:
            _put_back_forward(original, own)
            return method(*inner_args, **inner_kwargs)

        original.forward = call_method
        try:
            return self(*args, **kwargs)
        finally:
            _put_back_forward(original, own)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """That of the module that was set up."""
        return self.module.state_dict(*args, **kwargs)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Into the module that was set up."""
        return self.module.load_state_dict(state_dict, strict=strict, assign=assign)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Those of the module that was set up, under its names."""
        return self.module.named_parameters(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(vars(self)["_original"], name)


def _put_back_forward(module: nn.Module, own: Callable[..., Any] | None) -> None:
    if own is None:
        vars(module).pop("forward", None)
    else:
        module.forward = own


def scaled_optimizer(optimizer: Optimizer, scaler: torch.amp.GradScaler) -> Optimizer:
    """`optimizer`, still an instance of its class, whose `step` goes through the gradient scaler.

    State and parameter groups are shared with the original. Optimizers that need no scaler are not wrapped.
    """
    base = type(optimizer)

    def step(self: Any, closure: Callable[[], Any] | None = None) -> Any:
        loss = closure() if closure is not None else None
        scaler.step(self.unscaled)
        scaler.update()
        vars(optimizer)["_opt_called"] = True  # what torch's schedulers look at to see that a step came first
        return loss

    twin = object.__new__(type(f"Scaled{base.__name__}", (base,), {"step": step}))
    vars(twin).update({name: value for name, value in vars(optimizer).items() if name != "step"})
    unscaled = cast("Optimizer", _Unscaled(twin, base))
    vars(twin).update(unscaled=unscaled, unscale=lambda: scaler.unscale_(unscaled))
    return twin


class _Unscaled:
    """The scaled optimizer as the scaler needs to see it: the same, with a `step` that only steps."""

    def __init__(self, twin: Optimizer, base: type[Optimizer]) -> None:
        self._twin = twin
        self._base = base

    def step(self) -> Any:
        """The step of the optimizer's own class."""
        return self._base.step(self._twin)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._twin, name)
