"""A command line for your own module and data module, from the types of their arguments.

`CLI` reads command lines, YAML files and environment variables, makes the objects, and runs what was asked
for. It stands on jsonargparse, which the extra `blixt[train]` brings.
"""

from importlib.util import find_spec

from blixt.fabric import ConfigError

if find_spec("jsonargparse") is None:
    raise ConfigError(
        "blixt.trainer.CLI", "jsonargparse", "the package is not installed", "Run: pip install 'blixt[train]'"
    )

from blixt.trainer.cli.app import CLI
from blixt.trainer.cli.instances import instantiate_class, instantiate_module
from blixt.trainer.cli.optimizers import (
    ArgsType,
    LRSchedulerCallable,
    LRSchedulerTypeTuple,
    LRSchedulerTypeUnion,
    OptimizerCallable,
    ReduceLROnPlateau,
)
from blixt.trainer.cli.parser import ArgumentParser
from blixt.trainer.cli.save_config import ConfigExistsError, SaveConfigCallback

__all__ = [
    "CLI",
    "ArgsType",
    "ArgumentParser",
    "ConfigExistsError",
    "LRSchedulerCallable",
    "LRSchedulerTypeTuple",
    "LRSchedulerTypeUnion",
    "OptimizerCallable",
    "ReduceLROnPlateau",
    "SaveConfigCallback",
    "instantiate_class",
    "instantiate_module",
]
