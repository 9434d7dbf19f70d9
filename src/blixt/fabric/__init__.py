"""fabric scales a PyTorch loop that you own: devices, processes, precision, checkpoints, random numbers.

`Fabric` is one object with few verbs. It runs the same loop on a CPU, a GPU or several processes, started
by itself, by torchrun or by a blixt Job, and knows nothing of epochs; `blixt.trainer` builds on it.

The names load on first use, so that tools which only need an error class do not pay for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blixt.fabric.accelerators import (
        ACCELERATORS,
        Accelerator,
        CPUAccelerator,
        CUDAAccelerator,
        MPSAccelerator,
        find_usable_cuda_devices,
    )
    from blixt.fabric.checkpoint import (
        AsyncCheckpointIO,
        CheckpointIO,
        TorchCheckpointIO,
        WrappingCheckpointIO,
        consolidate,
        is_complete,
    )
    from blixt.fabric.collective import Collective, SingleDeviceCollective, TorchCollective
    from blixt.fabric.collectives import ReduceOp, all_gather_objects
    from blixt.fabric.data import ResumableLoader, Stateful
    from blixt.fabric.errors import (
        CheckpointError,
        CheckpointNotFoundError,
        ConfigError,
        FabricError,
        LaunchError,
        MissingPackageError,
        UnknownArgumentError,
        UsageError,
        WrongTypeError,
        nearest,
        reject_unknown,
    )
    from blixt.fabric.export import (
        export_safetensors,
        load_safetensors,
        save_safetensors,
    )
    from blixt.fabric.fabric import Fabric
    from blixt.fabric.flops import get_available_flops, measure_flops
    from blixt.fabric.loggers.base import DummyExperiment, Logger, rank_zero_experiment
    from blixt.fabric.loggers.comet import CometLogger
    from blixt.fabric.loggers.csv import CSVLogger
    from blixt.fabric.loggers.dummy import DummyLogger
    from blixt.fabric.loggers.experiment import BlixtLogger
    from blixt.fabric.loggers.mlflow import MLFlowLogger
    from blixt.fabric.loggers.tensorboard import TensorBoardLogger
    from blixt.fabric.loggers.wandb import WandbLogger
    from blixt.fabric.mesh import (
        Parallel,
    )
    from blixt.fabric.precision import (
        BitsandbytesPrecision,
        ComposedPrecision,
        DoublePrecision,
        Float8Precision,
        HalfPrecision,
        MixedPrecision,
        Precision,
        TransformerEnginePrecision,
        precision_names,
    )
    from blixt.fabric.rank_zero import (
        rank_zero_debug,
        rank_zero_deprecation,
        rank_zero_info,
        rank_zero_only,
        rank_zero_warn,
    )
    from blixt.fabric.rng import (
        capture_rng,
        isolate_rng,
        reset_seed,
        restore_rng,
        seed_everything,
        seed_worker,
    )
    from blixt.fabric.strategies import (
        DDPStrategy,
        DeepSpeedStrategy,
        FSDPStrategy,
        LayerSync,
        ModelParallelStrategy,
        ParallelStrategy,
        PipelineStrategy,
        SingleDeviceStrategy,
        Strategy,
        TorchSyncBatchNorm,
        strategy_names,
    )
    from blixt.fabric.throughput import Throughput, ThroughputMonitor
    from blixt.fabric.tree import map_tensors, tensors, to_device
    from blixt.fabric.wrapped_optimizer import FabricOptimizer
    from blixt.fabric.wrappers import FabricModule, is_wrapped

_FILE_OF = {
    "AsyncCheckpointIO": "checkpoint",
    "CheckpointIO": "checkpoint",
    "DDPStrategy": "strategies",
    "DeepSpeedStrategy": "strategies",
    "FSDPStrategy": "strategies",
    "LayerSync": "strategies",
    "ModelParallelStrategy": "strategies",
    "Parallel": "mesh",
    "ParallelStrategy": "strategies",
    "PipelineStrategy": "strategies",
    "SingleDeviceStrategy": "strategies",
    "Strategy": "strategies",
    "TorchCheckpointIO": "checkpoint",
    "TorchSyncBatchNorm": "strategies",
    "WrappingCheckpointIO": "checkpoint",
    "consolidate": "checkpoint",
    "export_safetensors": "export",
    "is_complete": "checkpoint",
    "load_safetensors": "export",
    "save_safetensors": "export",
    "strategy_names": "strategies",
    "ACCELERATORS": "accelerators",
    "Accelerator": "accelerators",
    "BitsandbytesPrecision": "precision",
    "BlixtLogger": "loggers.experiment",
    "CPUAccelerator": "accelerators",
    "CSVLogger": "loggers.csv",
    "CUDAAccelerator": "accelerators",
    "CheckpointError": "errors",
    "CheckpointNotFoundError": "errors",
    "Collective": "collective",
    "CometLogger": "loggers.comet",
    "ComposedPrecision": "precision",
    "ConfigError": "errors",
    "DoublePrecision": "precision",
    "DummyExperiment": "loggers.base",
    "DummyLogger": "loggers.dummy",
    "Fabric": "fabric",
    "FabricError": "errors",
    "FabricModule": "wrappers",
    "FabricOptimizer": "wrapped_optimizer",
    "Float8Precision": "precision",
    "HalfPrecision": "precision",
    "LaunchError": "errors",
    "Logger": "loggers.base",
    "MLFlowLogger": "loggers.mlflow",
    "MPSAccelerator": "accelerators",
    "MissingPackageError": "errors",
    "MixedPrecision": "precision",
    "Precision": "precision",
    "ReduceOp": "collectives",
    "ResumableLoader": "data",
    "SingleDeviceCollective": "collective",
    "Stateful": "data",
    "TensorBoardLogger": "loggers.tensorboard",
    "Throughput": "throughput",
    "ThroughputMonitor": "throughput",
    "TorchCollective": "collective",
    "TransformerEnginePrecision": "precision",
    "UnknownArgumentError": "errors",
    "UsageError": "errors",
    "WandbLogger": "loggers.wandb",
    "WrongTypeError": "errors",
    "all_gather_objects": "collectives",
    "capture_rng": "rng",
    "find_usable_cuda_devices": "accelerators",
    "get_available_flops": "flops",
    "is_wrapped": "wrappers",
    "isolate_rng": "rng",
    "map_tensors": "tree",
    "measure_flops": "flops",
    "nearest": "errors",
    "precision_names": "precision",
    "rank_zero_debug": "rank_zero",
    "rank_zero_deprecation": "rank_zero",
    "rank_zero_experiment": "loggers.base",
    "rank_zero_info": "rank_zero",
    "rank_zero_only": "rank_zero",
    "rank_zero_warn": "rank_zero",
    "reject_unknown": "errors",
    "reset_seed": "rng",
    "restore_rng": "rng",
    "seed_everything": "rng",
    "seed_worker": "rng",
    "tensors": "tree",
    "to_device": "tree",
}

__all__ = [
    "ACCELERATORS",
    "Accelerator",
    "AsyncCheckpointIO",
    "BitsandbytesPrecision",
    "BlixtLogger",
    "CPUAccelerator",
    "CSVLogger",
    "CUDAAccelerator",
    "CheckpointError",
    "CheckpointIO",
    "CheckpointNotFoundError",
    "Collective",
    "CometLogger",
    "ComposedPrecision",
    "ConfigError",
    "DDPStrategy",
    "DeepSpeedStrategy",
    "DoublePrecision",
    "DummyExperiment",
    "DummyLogger",
    "FSDPStrategy",
    "Fabric",
    "FabricError",
    "FabricModule",
    "FabricOptimizer",
    "Float8Precision",
    "HalfPrecision",
    "LaunchError",
    "LayerSync",
    "Logger",
    "MLFlowLogger",
    "MPSAccelerator",
    "MissingPackageError",
    "MixedPrecision",
    "ModelParallelStrategy",
    "Parallel",
    "ParallelStrategy",
    "PipelineStrategy",
    "Precision",
    "ReduceOp",
    "ResumableLoader",
    "SingleDeviceCollective",
    "SingleDeviceStrategy",
    "Stateful",
    "Strategy",
    "TensorBoardLogger",
    "Throughput",
    "ThroughputMonitor",
    "TorchCheckpointIO",
    "TorchCollective",
    "TorchSyncBatchNorm",
    "TransformerEnginePrecision",
    "UnknownArgumentError",
    "UsageError",
    "WandbLogger",
    "WrappingCheckpointIO",
    "WrongTypeError",
    "all_gather_objects",
    "capture_rng",
    "consolidate",
    "export_safetensors",
    "find_usable_cuda_devices",
    "get_available_flops",
    "is_complete",
    "is_wrapped",
    "isolate_rng",
    "load_safetensors",
    "map_tensors",
    "measure_flops",
    "nearest",
    "precision_names",
    "rank_zero_debug",
    "rank_zero_deprecation",
    "rank_zero_experiment",
    "rank_zero_info",
    "rank_zero_only",
    "rank_zero_warn",
    "reject_unknown",
    "reset_seed",
    "restore_rng",
    "save_safetensors",
    "seed_everything",
    "seed_worker",
    "strategy_names",
    "tensors",
    "to_device",
]


def __getattr__(name: str) -> object:
    file = _FILE_OF.get(name)
    if file is None:
        raise AttributeError(f"module 'blixt.fabric' has no attribute {name!r}")
    value = getattr(import_module(f"blixt.fabric.{file}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_FILE_OF])
