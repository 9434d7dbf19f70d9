"""`load_from_checkpoint`: the object again, from the hyperparameters and weights in a file."""

import ast
import csv
import functools
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import torch
from torch import nn

from blixt.fabric import CheckpointError, ConfigError, isolate_rng

PathLike = str | os.PathLike[str]
T = TypeVar("T", bound="Loading")

# A file may name the function that makes the object again. Only these are ever looked up.
_INSTANTIATORS = {
    "blixt.trainer.cli.instantiate_module",
    "lightning.pytorch.cli.instantiate_module",
    "pytorch_lightning.cli.instantiate_module",
}
_OLD_KEYS = ("hparams", "module_arguments")

if TYPE_CHECKING:
    class_only = classmethod
else:

    class class_only:
        """A classmethod that says so when it is called on an instance, whose weights it would not change."""

        def __init__(self, function):
            self._function = function
            functools.update_wrapper(self, function)

        def __get__(self, instance, owner):
            bound = functools.partial(self._function, owner)
            if instance is None:
                return functools.update_wrapper(bound, self._function)

            def refuse(*args, **kwargs):
                name = self._function.__name__
                raise TypeError(
                    f"{name} makes a new object: call it on the class, as {owner.__name__}.{name}(...). "
                    "To load weights into this one use load_state_dict."
                )

            return refuse


class Loading:
    """Gives `load_from_checkpoint`; which keys of the file it reads is up to the class."""

    CHECKPOINT_HYPER_PARAMS_KEY: str = "hyper_parameters"
    CHECKPOINT_HYPER_PARAMS_NAME: str = "hparams_name"
    CHECKPOINT_HYPER_PARAMS_TYPE: str = "hparams_type"

    @class_only
    def load_from_checkpoint(
        cls,
        checkpoint_path: PathLike | Any,
        map_location: Any = None,
        hparams_file: PathLike | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **overrides: Any,
    ) -> Self:
        """Make the object again from the hyperparameters and weights in a checkpoint.

        Random numbers that the constructor draws leave the generators as they were.

        Args:
            checkpoint_path: What a Trainer or Lightning >= 1.6 saved: a path, a URL or a binary file object.
            map_location: Where tensors go, as `torch.load` has it; default the device they were saved from if
                it is there, else the CPU.
            hparams_file: A .yaml or .csv file whose values stand in for those in the checkpoint.
            strict: Whether the names of all weights must match; default the module's `strict_loading`.
            weights_only: Refuse (True) or leave out with a warning (None) what is more than tensors and plain
                values; False lets the file run code, for files from people you trust.
            overrides: Arguments of `__init__` that are not, or not as wanted, in the file.

        Returns:
            A new object of this class; a module is on the device of its weights.

        Raises:
            CheckpointError: When the file cannot be read or its weights do not fit.
        """
        from blixt.trainer.checkpoint import read

        content: dict[str, Any] = read(checkpoint_path, map_location=map_location, weights_only=weights_only)
        kept = _read_hparams(hparams_file) if hparams_file is not None else _kept(cls, content)
        with isolate_rng():
            instance = _make(cls, kept, content, overrides)
            if isinstance(instance, nn.Module):
                _restore_module(instance, content, strict, checkpoint_path)
            elif cls.__qualname__ in content:
                cast("Any", instance).load_state_dict(content[cls.__qualname__])
        return instance


def _kept(cls: type[Loading], content: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key in (*_OLD_KEYS, cls.CHECKPOINT_HYPER_PARAMS_KEY):
        kept.update(content.get(key) or {})
    return kept


def _make(cls: type[T], kept: Any, content: dict[str, Any], overrides: dict[str, Any]) -> T:
    """Call the constructor with what it accepts of the file's values and the overrides."""
    accepted = inspect.signature(cls.__init__).parameters
    names = [p.name for p in accepted.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)][1:]
    takes_all = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    values: dict[str, Any] = {**kept, **overrides}
    instantiator = values.pop("_instantiator", None)
    if instantiator is not None:
        return _instantiate(cls, str(instantiator), values)
    whole = content.get(cls.CHECKPOINT_HYPER_PARAMS_NAME)
    if whole in names:
        config = {name: value for name, value in values.items() if name != whole}
        values = {whole: _as_kept(config, content.get(cls.CHECKPOINT_HYPER_PARAMS_TYPE)), **overrides}
    return cls(**{name: value for name, value in values.items() if takes_all or name in names})


def _as_kept(values: dict[str, Any], kind: Any) -> Any:
    """The values in the container that they were given in: attributes work as they did."""
    from blixt.trainer.hparams import HParams

    if kind is not None and "omegaconf" in str(getattr(kind, "__module__", kind)):
        from omegaconf import OmegaConf

        return OmegaConf.create(values)
    return HParams(values)


def _instantiate(cls: type[T], path: str, values: dict[str, Any]) -> T:
    if path not in _INSTANTIATORS:
        raise CheckpointError(
            f"The checkpoint wants to be made again by {path!r}, which is none of {sorted(_INSTANTIATORS)}. "
            "Nothing was run. If you trust the file, make the object yourself and use load_state_dict."
        )
    wanted = values.get("_class_path")
    if wanted is not None and not _is_imported_subclass(wanted, cls):
        raise CheckpointError(
            f"The checkpoint is of {wanted!r}, which is no imported subclass of {cls.__name__}. "
            "Nothing was run. Import it first if you trust it."
        )
    for inner in _class_paths(values):
        if not _is_imported_subclass(inner, object):
            raise CheckpointError(
                f"The checkpoint wants an object of {inner!r}, which has not been imported. Nothing was run. "
                "Import it first if you trust it."
            )
    from blixt.trainer.cli import instantiate_module

    return cast("T", cast("Any", instantiate_module)(cls, values))


def _class_paths(values: Any) -> Iterator[str]:
    """Every class that nested values ask for."""
    if isinstance(values, Mapping):
        for name, value in cast("Mapping[str, Any]", values).items():
            if name == "class_path":
                yield str(value)
            yield from _class_paths(value)
    elif isinstance(values, (list, tuple)):
        for value in cast("list[Any]", values):
            yield from _class_paths(value)


def _is_imported_subclass(path: Any, cls: type) -> bool:
    """Whether `path` names a subclass that is there already: looking must never import code."""
    module, _, name = str(path).rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return isinstance(found, type) and issubclass(found, cls)


def _restore_module(module: Any, content: dict[str, Any], strict: bool | None, source: Any) -> None:
    from blixt.trainer.checkpoint import load_weights
    from blixt.trainer.hooks import overridden
    from blixt.trainer.module import Module

    own: bool | None = module._strict_loading
    if own is not None and strict is not None and own != strict:
        reason = f"{type(module).__name__}.strict_loading is {own}"
        raise ConfigError("load_from_checkpoint(strict)", strict, reason, "Set it in one place")
    if overridden(module, "configure_model", Module):
        module.configure_model()
    module.on_load_checkpoint(content)
    load_weights(module, content, module.strict_loading if strict is None else strict)
    weights = content["state_dict"].values()
    device = next((weight.device for weight in weights if isinstance(weight, torch.Tensor)), None)
    if device is not None:
        module.to(device)


def _read_hparams(path: PathLike) -> dict[str, Any]:
    """Values from a .yaml or .csv file, as loggers write them."""
    name = os.fspath(path)
    ending = name.rpartition(".")[2].lower()
    if ending not in ("yaml", "yml", "csv"):
        raise ConfigError(
            "load_from_checkpoint(hparams_file)", name, "its ending is unknown", "Use .yaml or .csv"
        )
    if not os.path.exists(name):
        raise ConfigError(
            "load_from_checkpoint(hparams_file)", name, "there is no such file", "Check the path"
        )
    with open(name, newline="" if ending == "csv" else None) as file:
        if ending == "csv":
            rows = list(csv.reader(file))[1:]
            return {row[0]: _literal(row[1]) for row in rows if row}
        import yaml

        return yaml.safe_load(file) or {}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
