"""jsonargparse's parser, with groups of arguments for trainers, modules, data, callbacks and optimizers."""

# jsonargparse leaves the keyword arguments of its methods untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import Callable
from typing import Any, cast

import jsonargparse
import torch
from jsonargparse import class_from_function, register_unresolvable_import_paths, set_parsing_settings
from torch.optim import Optimizer

from blixt.fabric import ConfigError
from blixt.trainer.callback import Callback
from blixt.trainer.cli.optimizers import LRSchedulerTypeTuple
from blixt.trainer.datamodule import DataModule
from blixt.trainer.module import Module
from blixt.trainer.trainer import Trainer

register_unresolvable_import_paths(torch)
set_parsing_settings(config_read_mode_fsspec_enabled=True)

Registered = dict[str, tuple[type | tuple[type, ...], str]]
AUTOMATIC = "AUTOMATIC"


class ArgumentParser(jsonargparse.ArgumentParser):
    """A parser that can read YAML files, made from the signatures of classes.

    Args:
        args: For jsonargparse's parser.
        description: Shown by --help.
        env_prefix: What the names of environment variables begin with.
        default_env: Whether environment variables are read.
        kwargs: For jsonargparse's parser.

    Attributes:
        callback_keys: The groups that hold callbacks.
        optimizer_groups: The groups that hold optimizers, with the classes and where they are linked to.
        lr_scheduler_groups: The same for schedulers.
    """

    def __init__(
        self,
        *args: Any,
        description: str = "Train, validate, test and predict.",
        env_prefix: str = "PL",
        default_env: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            *args, description=description, env_prefix=env_prefix, default_env=default_env, **kwargs
        )
        self.callback_keys: list[str] = []
        self.optimizer_groups: Registered = {}
        self.lr_scheduler_groups: Registered = {}

    def add_lightning_class_args(
        self,
        lightning_class: Callable[..., Any],
        nested_key: str,
        subclass_mode: bool = False,
        required: bool = True,
    ) -> list[str]:
        """Add the arguments of a trainer, module, data module or callback.

        Args:
            lightning_class: The class, or a function with such a return type.
            nested_key: The group.
            subclass_mode: Let `--<group>=ClassName` choose among subclasses.
            required: Whether a class has to be chosen then.

        Returns:
            The names of the arguments.
        """
        given: Any = lightning_class
        kind: Any = given if isinstance(given, type) else class_from_function(given)
        if not issubclass(kind, (Trainer, Module, DataModule, Callback)):
            reason = "it is no Trainer, Module, DataModule or Callback"
            raise ConfigError(
                "add_lightning_class_args(lightning_class)", kind, reason, "Use add_class_arguments"
            )
        if issubclass(kind, Callback):
            self.callback_keys.append(nested_key)
        if subclass_mode:
            added: Any = self.add_subclass_arguments(kind, nested_key, fail_untyped=False, required=required)
            return added
        makes = not issubclass(kind, Trainer)
        return self.add_class_arguments(
            kind, nested_key, fail_untyped=False, instantiate=makes, sub_configs=True, skip={"unknown"}
        )

    def add_optimizer_args(
        self,
        optimizer_class: type[Optimizer] | tuple[type[Optimizer], ...] = (Optimizer,),
        nested_key: str = "optimizer",
        link_to: str = AUTOMATIC,
    ) -> None:
        """Add the arguments of an optimizer.

        Args:
            optimizer_class: The class; a tuple lets `--<group>=ClassName` choose among subclasses.
            nested_key: The group.
            link_to: The argument that gets it; "AUTOMATIC" writes `configure_optimizers` of the module.
        """
        self._add_group(optimizer_class, (Optimizer,), nested_key, "params")
        self.optimizer_groups[nested_key] = (optimizer_class, link_to)

    def add_lr_scheduler_args(
        self,
        lr_scheduler_class: Any = LRSchedulerTypeTuple,
        nested_key: str = "lr_scheduler",
        link_to: str = AUTOMATIC,
    ) -> None:
        """Add the arguments of a learning-rate scheduler; see `add_optimizer_args`."""
        self._add_group(lr_scheduler_class, LRSchedulerTypeTuple, nested_key, "optimizer")
        self.lr_scheduler_groups[nested_key] = (lr_scheduler_class, link_to)

    def _add_group(self, given: Any, bases: tuple[type, ...], key: str, left_out: str) -> None:
        kinds = cast("tuple[type, ...]", given if isinstance(given, tuple) else (given,))
        for kind in kinds:
            if not (isinstance(kind, type) and issubclass(kind, bases)):  # pyright: ignore[reportUnnecessaryIsInstance]
                names = " or ".join(base.__name__ for base in bases)
                raise ConfigError(f"ArgumentParser({key})", kind, f"it is no {names}", "Give such a class")
        options: dict[str, Any] = {"instantiate": False, "fail_untyped": False, "skip": {left_out}}
        if isinstance(given, tuple):
            self.add_subclass_arguments(kinds, key, **options)
        else:
            self.add_class_arguments(kinds[0], key, sub_configs=True, **options)
