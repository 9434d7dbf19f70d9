"""fabric scales a PyTorch loop that you own: devices, processes, precision, checkpoints, random numbers.

`Fabric` is one object with few verbs. It runs the same loop on a CPU, a GPU or several processes, started
by itself, by torchrun or by a blixt Job, and knows nothing of epochs; `blixt.trainer` builds on it.

The names load on first use, so that tools which only need an error class do not pay for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blixt.fabric.collectives import ReduceOp, all_gather_objects
    from blixt.fabric.data import ResumableLoader, Stateful
    from blixt.fabric.errors import (
        CheckpointError,
        ConfigError,
        FabricError,
        LaunchError,
        UnknownArgumentError,
        nearest,
        reject_unknown,
    )
    from blixt.fabric.fabric import Fabric
    from blixt.fabric.loggers.base import Logger
    from blixt.fabric.loggers.csv import CSVLogger
    from blixt.fabric.loggers.experiment import BlixtLogger
    from blixt.fabric.loggers.tensorboard import TensorBoardLogger
    from blixt.fabric.rng import capture_rng, isolate_rng, restore_rng, seed_everything
    from blixt.fabric.tree import map_tensors, tensors, to_device
    from blixt.fabric.wrappers import FabricModule

_FILE_OF = {
    "Fabric": "fabric",
    "FabricModule": "wrappers",
    "ResumableLoader": "data",
    "Stateful": "data",
    "ReduceOp": "collectives",
    "all_gather_objects": "collectives",
    "FabricError": "errors",
    "ConfigError": "errors",
    "UnknownArgumentError": "errors",
    "LaunchError": "errors",
    "CheckpointError": "errors",
    "nearest": "errors",
    "reject_unknown": "errors",
    "Logger": "loggers.base",
    "CSVLogger": "loggers.csv",
    "TensorBoardLogger": "loggers.tensorboard",
    "BlixtLogger": "loggers.experiment",
    "seed_everything": "rng",
    "capture_rng": "rng",
    "restore_rng": "rng",
    "isolate_rng": "rng",
    "map_tensors": "tree",
    "tensors": "tree",
    "to_device": "tree",
}

__all__ = [
    "BlixtLogger",
    "CSVLogger",
    "CheckpointError",
    "ConfigError",
    "Fabric",
    "FabricError",
    "FabricModule",
    "LaunchError",
    "Logger",
    "ReduceOp",
    "ResumableLoader",
    "Stateful",
    "TensorBoardLogger",
    "UnknownArgumentError",
    "all_gather_objects",
    "capture_rng",
    "isolate_rng",
    "map_tensors",
    "nearest",
    "reject_unknown",
    "restore_rng",
    "seed_everything",
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
