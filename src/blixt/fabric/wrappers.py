"""What `Fabric.setup` makes of a module."""

from collections.abc import Callable, Iterator, Mapping
from types import MethodType
from typing import Any

import torch
from torch import nn

from blixt.fabric.compiled import unwrap_compiled
from blixt.fabric.data import ResumableLoader
from blixt.fabric.errors import ConfigError, MissingMethodError, UsageError, WrongTypeError, nearest
from blixt.fabric.precision import Precision
from blixt.fabric.wrapped_optimizer import FabricOptimizer

_STEP_METHODS = ("training_step", "validation_step", "test_step", "predict_step")
_OWN = "_fabric_ready"


class FabricModule(nn.Module):
    """Runs the forward pass under the chosen precision and through the strategy's wrapper.

    Attributes, methods and `state_dict` keys are those of the module that was set up, and setting an
    attribute sets it there. Methods that compute have to be marked, see `mark_forward_method`; the `*_step`
    methods of a Trainer's module are.
    """

    def __init__(
        self,
        original: nn.Module,
        forward_module: nn.Module,
        precision: Precision,
        device: torch.device,
        *,
        guarded: bool = False,
        check_output: Callable[[Any], None] | None = None,
    ) -> None:
        super().__init__()
        self._forward_module = forward_module
        own = vars(self)
        own["_original"] = original
        own["_precision"] = precision
        own["_run"] = precision.wrap(forward_module, device)
        own["_plain"] = precision.compute_dtype is None and not precision.converts_input
        own["_check_output"] = check_output
        own["_guarded"] = guarded
        own["_device"] = device
        own["_marked"] = {name for name in _STEP_METHODS if hasattr(original, name)}
        self.train(original.training)
        if own["_plain"] and check_output is None and own["_run"] is forward_module:
            own["forward"] = forward_module  # nothing to do around it: one frame less a step
        own[_OWN] = True

    @property
    def module(self) -> nn.Module:
        """The module that was set up."""
        return vars(self)["_original"]

    @property
    def device(self) -> torch.device:
        """Where the module runs."""
        return vars(self)["_device"]

    @property
    def dtype(self) -> torch.dtype:
        """In what the module's parameters are kept; torch's default type for a module without any."""
        first = next((p for p in self.module.parameters() if p.is_floating_point()), None)
        return torch.get_default_dtype() if first is None else first.dtype

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's forward; outputs in the policy's own type come back in torch's default type."""
        if self._plain:
            output = self._run(*args, **kwargs)
        else:
            precision: Precision = self._precision
            args, kwargs = precision.convert_input((args, kwargs))
            output = precision.restore_output(self._run(*args, **kwargs))
        if self._check_output is not None:
            self._check_output(output)
        return output

    def mark_forward_method(self, method: str | MethodType) -> None:
        """Let a method run like `forward`: under the precision and through the strategy.

        Args:
            method: Its name, or the bound method.

        Raises:
            WrongTypeError: When it is neither.
            ConfigError: For "forward" itself, or a name that is no method of the module.
        """
        if not isinstance(method, (str, MethodType)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise WrongTypeError("mark_forward_method(method)", method, "it is no method", "Give its name")
        name = method if isinstance(method, str) else method.__name__
        if name == "forward":
            raise ConfigError(
                "mark_forward_method(method)", name, "forward needs no mark", "Leave this call out"
            )
        if not isinstance(getattr(self.module, name, None), MethodType):
            owner = type(self.module).__name__
            hint = nearest(name, [n for n in dir(type(self.module)) if not n.startswith("_")]).rstrip("?")
            raise MissingMethodError("mark_forward_method(method)", name, f"{owner} has no such method", hint)
        vars(self)["_marked"].add(name)

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

    def named_buffers(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, torch.Tensor]]:
        """Those of the module that was set up, under its names."""
        return self.module.named_buffers(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        own = vars(self)
        if name in own.get("_marked", ()):
            return self._through_forward(name)
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "_original" not in own:
                raise
        found = getattr(own["_original"], name)
        return self._watched(name, found) if own["_guarded"] and isinstance(found, MethodType) else found

    def __setattr__(self, name: str, value: Any) -> None:
        own = vars(self)
        if _OWN not in own or name in own or hasattr(type(self), name):
            super().__setattr__(name, value)
            if _OWN not in own or not hasattr(own["_original"], name):
                return
        setattr(own["_original"], name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self if name in vars(self) else self.module, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self.module)})

    def _through_forward(self, name: str) -> Callable[..., Any]:
        """`name` as a forward pass: strategies only watch `forward`, so it is lent to the method."""
        original = self.module
        method = getattr(original, name)

        def run(*args: Any, **kwargs: Any) -> Any:
            own = vars(original).get("forward")

            def lent(*inner_args: Any, **inner_kwargs: Any) -> Any:
                _put_back_forward(original, own)
                return method(*inner_args, **inner_kwargs)

            original.forward = lent
            try:
                return self(*args, **kwargs)
            finally:
                _put_back_forward(original, own)

        return run

    def _watched(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """`method`, which may do anything but compute: the strategy would not see it."""
        original = self.module

        def refuse(*_: Any) -> None:
            raise UsageError(
                f"You called {type(original).__name__}.{name}(), which computes, around the wrapper, so that "
                f"the strategy cannot see it. Call model.mark_forward_method({name!r}) once after "
                "fabric.setup()."
            )

        def run(*args: Any, **kwargs: Any) -> Any:
            handles = [child.register_forward_pre_hook(refuse) for child in original.modules()]
            try:
                return method(*args, **kwargs)
            finally:
                for handle in handles:
                    handle.remove()

        return run


def _put_back_forward(module: nn.Module, own: Callable[..., Any] | None) -> None:
    if own is None:
        vars(module).pop("forward", None)
    else:
        module.forward = own


def is_wrapped(item: object) -> bool:
    """Whether `item` came out of a set-up verb of Fabric, compiled or not."""
    return isinstance(unwrap_compiled(item)[0], (FabricModule, FabricOptimizer, ResumableLoader))
