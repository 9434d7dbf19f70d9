"""The verbs of Fabric for callbacks and loggers."""

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any

import torch

from blixt.fabric.errors import ConfigError
from blixt.fabric.place import Place
from blixt.fabric.rank_zero import rank_zero_warn


class Reports(Place):
    """Tells callbacks what happens and loggers what was measured."""

    def call(self, hook_name: str, *args: Any, **kwargs: Any) -> None:
        """Call the method `hook_name` of every callback that has it.

        Args:
            hook_name: Any name: Fabric knows no events of its own but "on_after_setup" and
                "on_after_optimizer_step".
            args: For the method.
            kwargs: For the method; those that it does not take are left out.
        """
        for callback in self.callbacks:
            method = getattr(callback, hook_name, None)
            if method is None:
                continue
            if not callable(method):
                rank_zero_warn(f"{type(callback).__name__}.{hook_name} is not callable and was left out.")
                continue
            method(*args, **(_taken(method, kwargs) if kwargs else {}))

    def log(self, name: str, value: Any, step: int | None = None) -> None:
        """Send one number to every logger, see `log_dict`."""
        self.log_dict({name: value}, step)

    def log_dict(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Send numbers to every logger, from rank 0.

        Args:
            metrics: Numbers and tensors of one element, by name. Tensors are waited for.
            step: Where on the axis they belong; by default the logger counts its rows.
        """
        if not self.is_global_zero or not self.loggers:
            return
        numbers = {name: _number(name, value) for name, value in metrics.items()}
        for logger in self.loggers:
            logger.log_metrics(metrics=numbers, step=step)


def _taken(method: Callable[..., Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What of `kwargs` the method takes."""
    try:
        parameters = signature(method).parameters
    except (TypeError, ValueError):
        return kwargs
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return kwargs
    return {name: value for name, value in kwargs.items() if name in parameters}


def _number(name: str, value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    if value.numel() != 1:
        shape = tuple(value.shape)
        raise ConfigError(f"log({name})", shape, "a logger takes single numbers", "Reduce it, e.g. .mean()")
    return value.item()
