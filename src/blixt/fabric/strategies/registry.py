"""From what people write in `strategy=` to a strategy: one parser for all the names."""

import re
from collections.abc import Callable
from typing import Any, cast

from blixt.fabric.errors import ConfigError, nearest
from blixt.fabric.strategies.base import Strategy

_DDP = re.compile(r"^ddp(?:_(spawn|fork|notebook))?(?:_find_unused_parameters_(true|false))?$")
_DEEPSPEED = re.compile(r"^deepspeed(?:_stage_(?:(1)|(2)(_offload)?|(3)(_offload)?))?$")
_LAUNCHERS = {None: None, "spawn": "spawn", "fork": "fork", "notebook": "fork"}
_REGISTERED: dict[str, Callable[[], Strategy]] = {}


def register_strategy(name: str, make: Callable[[], Strategy]) -> None:
    """Let `strategy=name` mean what `make` returns, also where the name is one of blixt's.

    Example:
        >>> from blixt.fabric import DDPStrategy
        >>> register_strategy("patient", lambda: DDPStrategy(timeout_s=7200))
        >>> resolve_strategy("patient").timeout_s
        7200
        >>> unregister_strategy("patient")
    """
    _REGISTERED[name] = make


def unregister_strategy(name: str) -> None:
    """Forget a name that was registered; others are left alone."""
    _REGISTERED.pop(name, None)


def strategy_names() -> list[str]:
    """Every name that `resolve_strategy` understands."""
    unused = ("", "_find_unused_parameters_true", "_find_unused_parameters_false")
    ddp = [f"ddp{how}{rest}" for how in ("", "_spawn", "_fork", "_notebook") for rest in unused]
    deepspeed = ["deepspeed", "deepspeed_stage_1", "deepspeed_stage_2", "deepspeed_stage_2_offload"]
    deepspeed += ["deepspeed_stage_3", "deepspeed_stage_3_offload"]
    others = ["auto", "single_device", "fsdp", "fsdp_cpu_offload", "parallel", "pipeline"]
    return sorted({*ddp, *deepspeed, *others, *_REGISTERED})


def resolve_strategy(strategy: str | Strategy = "auto", world_size: int = 1) -> Strategy:
    """The strategy that `strategy` names, or is.

    Args:
        strategy: One of `strategy_names()`, or a strategy. "auto" is "single_device" for one process and
            "ddp" for several.
        world_size: How many processes there will be.

    Raises:
        ConfigError: When there is no such strategy, or it does not go with `world_size`.
    """
    if isinstance(strategy, Strategy):
        made = strategy
    elif isinstance(cast("object", strategy), str):
        made = _make(("single_device" if world_size == 1 else "ddp") if strategy == "auto" else strategy)
    else:
        raise ConfigError("strategy", strategy, "it is neither a name nor a Strategy", "Use e.g. 'ddp'")
    if made.name == "single_device" and world_size > 1:
        reason = f"{world_size} processes cannot share a single device"
        raise ConfigError("strategy", strategy, reason, "Use strategy='ddp', or devices=1")
    return made


def _make(name: str) -> Strategy:
    if name in _REGISTERED:
        return _REGISTERED[name]()
    if name == "single_device":
        from blixt.fabric.strategies.single import SingleDeviceStrategy

        return SingleDeviceStrategy()
    if match := _DDP.match(name):
        return _ddp(*match.groups())
    if name in ("fsdp", "fsdp_cpu_offload"):
        from blixt.fabric.strategies.fsdp import FSDPStrategy

        return FSDPStrategy(cpu_offload=name == "fsdp_cpu_offload")
    if name == "parallel":
        from blixt.fabric.strategies.parallel import ParallelStrategy

        return ParallelStrategy()
    if match := _DEEPSPEED.match(name):
        return _deepspeed(*match.groups())
    if name == "pipeline":
        from blixt.fabric.strategies.pipeline import PipelineStrategy

        return PipelineStrategy()
    raise ConfigError("strategy", name, "there is no such strategy", _hint(name))


def _hint(name: str) -> str:
    if "xla" in name.split("_"):
        return f"Install a package that registers {name!r} (blixt.fabric.register_strategy)"
    return nearest(name, strategy_names()).rstrip("?")


def _ddp(how: str | None, unused: str | None) -> Strategy:
    from blixt.fabric.strategies.ddp import DDPStrategy

    launcher: Any = _LAUNCHERS[how]
    return DDPStrategy(find_unused_parameters=unused == "true", launcher=launcher)


def _deepspeed(
    one: str | None, two: str | None, two_offload: str | None, three: str | None, three_offload: str | None
) -> Strategy:
    from blixt.fabric.strategies.deepspeed import DeepSpeedStrategy

    stage = int(one or two or three or 2)
    offload = bool(two_offload or three_offload)
    return DeepSpeedStrategy(stage, offload_optimizer=offload, offload_parameters=bool(three_offload))
