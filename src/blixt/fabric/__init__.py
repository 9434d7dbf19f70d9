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
    from blixt.fabric.agree import DataLeft, StopAgreement, together
    from blixt.fabric.checkpoint import (
        AsyncCheckpointIO,
        CheckpointIO,
        TorchCheckpointIO,
        WrappingCheckpointIO,
        consolidate,
        is_complete,
    )
    from blixt.fabric.cluster import (
        BlixtEnvironment,
        ClusterEnvironment,
        KubeflowEnvironment,
        KubernetesIndexEnvironment,
        LocalEnvironment,
        LSFEnvironment,
        MPIEnvironment,
        SlurmEnvironment,
        TorchrunEnvironment,
        World,
        detect_environment,
        free_port,
    )
    from blixt.fabric.collective import Collective, SingleDeviceCollective, TorchCollective
    from blixt.fabric.collectives import ReduceOp, all_gather_objects
    from blixt.fabric.data import ResumableLoader, Stateful, suggested_max_num_workers
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
    from blixt.fabric.launch import launch_command, launch_function, launch_script
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
    from blixt.fabric.samplers import ShardBatchSampler, ShardSampler
    from blixt.fabric.signals import SignalHandlers
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
        register_strategy,
        strategy_names,
        unregister_strategy,
    )
    from blixt.fabric.throughput import Throughput, ThroughputMonitor
    from blixt.fabric.tree import map_tensors, tensors, to_device
    from blixt.fabric.wrapped_optimizer import FabricOptimizer
    from blixt.fabric.wrappers import FabricModule, is_wrapped

_FILE_OF = {
    "BlixtEnvironment": "cluster",
    "ClusterEnvironment": "cluster",
    "DataLeft": "agree",
    "KubeflowEnvironment": "cluster",
    "KubernetesIndexEnvironment": "cluster",
    "LSFEnvironment": "cluster",
    "LocalEnvironment": "cluster",
    "MPIEnvironment": "cluster",
    "ShardBatchSampler": "samplers",
    "ShardSampler": "samplers",
    "SignalHandlers": "signals",
    "SlurmEnvironment": "cluster",
    "StopAgreement": "agree",
    "TorchrunEnvironment": "cluster",
    "World": "cluster",
    "detect_environment": "cluster",
    "free_port": "cluster",
    "launch_command": "launch",
    "launch_function": "launch",
    "launch_script": "launch",
    "suggested_max_num_workers": "data",
    "together": "agree",
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
    "register_strategy": "strategies",
    "strategy_names": "strategies",
    "unregister_strategy": "strategies",
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
    "BlixtEnvironment",
    "BlixtLogger",
    "CPUAccelerator",
    "CSVLogger",
    "CUDAAccelerator",
    "CheckpointError",
    "CheckpointIO",
    "CheckpointNotFoundError",
    "ClusterEnvironment",
    "Collective",
    "CometLogger",
    "ComposedPrecision",
    "ConfigError",
    "DDPStrategy",
    "DataLeft",
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
    "KubeflowEnvironment",
    "KubernetesIndexEnvironment",
    "LSFEnvironment",
    "LaunchError",
    "LayerSync",
    "LocalEnvironment",
    "Logger",
    "MLFlowLogger",
    "MPIEnvironment",
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
    "ShardBatchSampler",
    "ShardSampler",
    "SignalHandlers",
    "SingleDeviceCollective",
    "SingleDeviceStrategy",
    "SlurmEnvironment",
    "Stateful",
    "StopAgreement",
    "Strategy",
    "TensorBoardLogger",
    "Throughput",
    "ThroughputMonitor",
    "TorchCheckpointIO",
    "TorchCollective",
    "TorchSyncBatchNorm",
    "TorchrunEnvironment",
    "TransformerEnginePrecision",
    "UnknownArgumentError",
    "UsageError",
    "WandbLogger",
    "World",
    "WrappingCheckpointIO",
    "WrongTypeError",
    "all_gather_objects",
    "capture_rng",
    "consolidate",
    "detect_environment",
    "export_safetensors",
    "find_usable_cuda_devices",
    "free_port",
    "get_available_flops",
    "is_complete",
    "is_wrapped",
    "isolate_rng",
    "launch_command",
    "launch_function",
    "launch_script",
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
    "register_strategy",
    "reject_unknown",
    "reset_seed",
    "restore_rng",
    "save_safetensors",
    "seed_everything",
    "seed_worker",
    "strategy_names",
    "suggested_max_num_workers",
    "tensors",
    "to_device",
    "together",
    "unregister_strategy",
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
