"""What `log` accepts as a value, and how it is kept without holding up a device."""

from numbers import Number
from typing import Any, cast

import torch

from blixt.fabric import ConfigError


def taken(name: str, value: Any, enable_graph: bool) -> Any:
    """The value as it is kept: a number from the host, a tensor of one element from elsewhere.

    Tensors on an accelerator are copied there, because reading them would wait for the device and keeping
    them would show what the module does to them later.
    """
    if not isinstance(value, torch.Tensor):
        return as_number(name, value)
    if type(value) is not torch.Tensor and hasattr(value, "full_tensor"):
        value = cast("torch.Tensor", cast("Any", value).full_tensor())
    if value.numel() != 1:
        reason = f"the value has shape {tuple(value.shape)}"
        raise ConfigError("log(name)", name, reason, "Log one number, e.g. value.mean()")
    if enable_graph:
        return value.reshape(())
    return value.item() if value.is_cpu else value.detach().clone()


def as_number(name: str, value: Any) -> Any:
    """`value`, if it is a real number or a tensor.

    Raises:
        ConfigError: When it is anything else.
    """
    if isinstance(value, torch.Tensor):
        if value.is_complex():
            raise ConfigError("log(name)", name, "the value is complex", "Log its real part or its size")
        return value
    if isinstance(value, Number) and not isinstance(value, complex):
        return float(cast("Any", value))
    reason = f"a {type(value).__name__} is not a number"
    fix = "Use log_dict" if hasattr(value, "items") else "Log a number, a tensor of one element or a metric"
    raise ConfigError("log(name)", name, reason, fix)
