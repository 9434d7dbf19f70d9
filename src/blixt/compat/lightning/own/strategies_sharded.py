"""Sharding strategies that are made with Lightning's arguments, which are FSDP1's and DeepSpeed's."""

from enum import Enum
from typing import Any, cast

from torch import nn

from blixt import fabric
from blixt.compat.lightning.own.strategies import Mapped

__all__ = ["DeepSpeedStrategy", "FSDPStrategy", "ModelParallelStrategy"]

_ONLY_FSDP1 = ("limit_all_gathers", "use_orig_params", "backward_prefetch", "forward_prefetch", "device_id")
_ZERO = (
    "contiguous_gradients",
    "overlap_comm",
    "allgather_partitions",
    "reduce_scatter",
    "allgather_bucket_size",
    "reduce_bucket_size",
    "sub_group_size",
)
_RECOMPUTED = (
    "partition_activations",
    "cpu_checkpointing",
    "contiguous_memory_optimization",
    "synchronize_checkpoint_boundary",
)
_AIO = ("block_size", "queue_depth", "single_submit", "overlap_events", "thread_count")


class ModelParallelStrategy(Mapped, fabric.ModelParallelStrategy):
    """blixt's, with Lightning's arguments."""

    STANDS_FOR = fabric.ModelParallelStrategy


class FSDPStrategy(Mapped, fabric.FSDPStrategy):
    """blixt's, which is FSDP2, with Lightning's arguments, which are FSDP1's."""

    STANDS_FOR = fabric.FSDPStrategy

    def __init__(self, *args: Any, **options: Any) -> None:
        for name in _ONLY_FSDP1:  # FSDP2 does without them; results do not depend on them
            options.pop(name, None)
        if options.get("auto_wrap_policy") is None:
            options.pop("auto_wrap_policy", None)
        if (kinds := options.pop("activation_checkpointing", None)) is not None:
            options["activation_checkpointing_policy"] = set(_list(kinds))
        if (ways := options.get("sharding_strategy")) is not None:
            options.update(_sharding(ways.name if isinstance(ways, Enum) else ways))
        offload = options.get("cpu_offload")
        options["cpu_offload"] = bool(getattr(offload, "offload_params", offload))
        if (types := options.get("mixed_precision")) is not None:
            options["mixed_precision"] = _mixed(types)
        ignored: list[nn.Module] = list(options.pop("ignored_modules", None) or ())
        states: list[Any] = [*(options.pop("ignored_states", None) or ()), *ignored]
        if states:
            options["ignored_params"] = {one for state in states for one in _parameters(state)}
        super().__init__(*args, **options)


class DeepSpeedStrategy(Mapped, fabric.DeepSpeedStrategy):
    """blixt's, with Lightning's arguments; a `config` of DeepSpeed's wins over them."""

    STANDS_FOR = fabric.DeepSpeedStrategy

    def __init__(self, *args: Any, **options: Any) -> None:
        for name in ("logging_level", "load_full_weights", "zero_optimization", "remote_device"):
            options.pop(name, None)  # blixt's DeepSpeed is quiet, and reads whole weights anyway
        zero = {name: _whole(options.pop(name)) for name in _ZERO if name in options}
        config: dict[str, Any] = {}
        for group, names in (("activation_checkpointing", _RECOMPUTED), ("aio", _AIO)):
            if found := {name: options.pop(name) for name in names if name in options}:
                config[group] = found
        batch = options.pop("logging_batch_size_per_gpu", "auto")
        if batch != "auto":
            config["train_micro_batch_size_per_gpu"] = batch
        if "zero_allow_untested_optimizer" in options:
            config["zero_allow_untested_optimizer"] = options.pop("zero_allow_untested_optimizer")
        places = [options.pop(f"offload_{what}_device", "cpu") for what in ("optimizer", "params")]
        if "nvme" not in places:
            options.pop("nvme_path", None)
        if options.get("config") is None and config:
            options["config"] = config
        super().__init__(*args, zero=zero or None, **options)


def _sharding(name: str) -> dict[str, Any]:
    """FSDP1's name of a way to shard in the arguments of FSDP2's."""
    if name == "_HYBRID_SHARD_ZERO2":
        return {"sharding_strategy": "HYBRID_SHARD", "reshard_after_forward": False}
    return {"sharding_strategy": name}


def _mixed(types: Any) -> Any:
    """FSDP1's mixed precision as FSDP2's."""
    from torch.distributed.fsdp import MixedPrecision, MixedPrecisionPolicy

    if not isinstance(types, MixedPrecision):
        return types
    return MixedPrecisionPolicy(
        param_dtype=types.param_dtype,
        reduce_dtype=types.reduce_dtype,
        cast_forward_inputs=types.cast_forward_inputs,
    )


def _list(one_or_several: Any) -> list[Any]:
    return cast("list[Any]", one_or_several) if isinstance(one_or_several, list) else [one_or_several]


def _parameters(state: Any) -> list[nn.Parameter]:
    return list(state.parameters()) if isinstance(state, nn.Module) else [state]


def _whole(number: Any) -> Any:
    """Sizes are often written as 5e8, and DeepSpeed wants whole numbers."""
    return int(number) if isinstance(number, float) else number
