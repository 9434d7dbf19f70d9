"""Optimizers that were made before their parameters became shards."""

from torch import nn
from torch.optim import Optimizer

from blixt.fabric.errors import ConfigError


def names_before(module: nn.Module) -> dict[nn.Parameter, str]:
    """The name of every parameter as it is now; take it before `Strategy.shard`."""
    return {parameter: name for name, parameter in module.named_parameters()}


def rebind(optimizer: Optimizer, names: dict[nn.Parameter, str], module: nn.Module) -> None:
    """Point the parameter groups of `optimizer` at what the parameters of the same names are now.

    Args:
        optimizer: One that has not stepped yet; its options stay.
        names: From `names_before`.
        module: The sharded module. Parameters that this process no longer holds leave the groups.

    Raises:
        ConfigError: When the optimizer has state already, or trains parameters of another module.
    """
    now = dict(module.named_parameters(remove_duplicate=False))
    groups = [list(group["params"]) for group in optimizer.param_groups]
    if all(parameter is now.get(names.get(parameter, "")) for group in groups for parameter in group):
        return
    kind = type(optimizer).__name__
    if optimizer.state:
        reason = "it holds state of parameters that the strategy replaces by shards"
        raise ConfigError("setup(optimizer)", kind, reason, "Call setup before the first step")
    unknown = sum(parameter not in names for group in groups for parameter in group)
    if unknown:
        reason = f"{unknown} of its parameters are not in the module that is set up with it"
        raise ConfigError("setup(optimizer)", kind, reason, "Make it from module.parameters()")
    for group, parameters in zip(optimizer.param_groups, groups, strict=True):
        group["params"] = [now[names[parameter]] for parameter in parameters if names[parameter] in now]
