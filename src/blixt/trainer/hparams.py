"""`save_hyperparameters`: remember what a module or data module was made with."""

import copy
import dataclasses
import warnings
from argparse import Namespace
from collections.abc import Generator, Iterable, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any, cast

from torch import nn

from blixt.fabric import ConfigError
from blixt.trainer.hparams_frames import caller_frame, init_arguments
from blixt.trainer.module_load import Loading


class HParams(dict[str, Any]):
    """A dict whose keys are also attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"There is no hyperparameter {name!r}. Known: {', '.join(self)}.") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __repr__(self) -> str:
        width = max((len(name) for name in self), default=0) + 3
        return "\n".join(f"{_quoted(name):{width}} {value}" for name, value in sorted(self.items()))


AttributeDict = HParams
"""The name that users of Lightning know."""

_given: ContextVar[dict[str, Any] | None] = ContextVar("blixt_given_hyperparameters", default=None)


@contextmanager
def given_hyperparameters(values: Mapping[str, Any], instantiator: str) -> Generator[None]:
    """Inside, `save_hyperparameters()` keeps `values` instead of the arguments of `__init__`.

    For command lines, where the arguments are objects that were made from plain values.

    Args:
        values: What to keep.
        instantiator: The function that makes the object again from them; `load_from_checkpoint` knows a few.
    """
    token = _given.set({**values, "_instantiator": instantiator})
    try:
        yield
    finally:
        _given.reset(token)


class HyperparametersMixin(Loading):
    """Gives `hparams`, `save_hyperparameters` and `load_from_checkpoint`."""

    _log_hyperparams: bool = False
    _hparams_name: str | None = None

    @property
    def hparams(self) -> Any:
        """What `save_hyperparameters` kept; changes go into the next checkpoint."""
        return vars(self).setdefault("_hparams", HParams())

    @property
    def hparams_initial(self) -> Any:
        """A copy of what `save_hyperparameters` kept when it was called last."""
        return _copy(vars(self).get("_hparams_initial", HParams()))

    def save_hyperparameters(
        self,
        *args: Any,
        ignore: str | Iterable[str] | None = None,
        frame: FrameType | None = None,
        logger: bool = True,
    ) -> None:
        """Keep what the object was made with in `hparams`, checkpoints and loggers; call it in `__init__`.

        Arguments of all `__init__` that run for this object are found: those of subclasses win. A dataclass
        may call it in `__post_init__`, where the fields are kept.

        Args:
            args: Names of the arguments to keep; or one mapping, Namespace, dataclass instance or OmegaConf
                config to keep instead; none means all.
            ignore: Names to leave out, also of what a base class has kept.
            frame: The frame of `__init__`, when this is called from a function in between.
            logger: Whether the loggers get them, too.

        Raises:
            ConfigError: For a name that `__init__` does not have, or a value that holds no names.
        """
        left_out = {ignore} if isinstance(ignore, str) else set(ignore or ())
        found = self._made_with(frame)
        kept: Any = {name: value for name, value in found.items() if name not in left_out}
        objects = [item for item in args if not isinstance(item, str)]
        self._log_hyperparams = logger
        if len(args) == 1 and not isinstance(args[0], str) and not _has_names(args[0]):
            return
        if len(objects) == 1:
            self._hparams_name = next((name for name, value in kept.items() if value is objects[0]), None)
            kept = objects[0]
        else:
            self._hparams_name = "kwargs" if args or kept else None
            kept = self._only(args, kept) if args else kept
        self._keep(kept)
        for name in left_out:
            self.hparams.pop(name, None)
        _warn_of_modules(type(self).__name__, self.hparams)
        vars(self)["_hparams_initial"] = _copy(self.hparams)

    def _made_with(self, frame: FrameType | None) -> dict[str, Any]:
        given = _given.get()
        if given is not None:
            return dict(given)
        if dataclasses.is_dataclass(self):
            return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        return init_arguments(self, frame if frame is not None else caller_frame(__file__))

    def _only(self, names: tuple[Any, ...], found: dict[str, Any]) -> dict[str, Any]:
        missing = next((name for name in names if name not in found), None)
        if missing is not None:
            reason = f"{type(self).__name__}.__init__ has no such argument"
            fix = f"Known: {', '.join(found)}" if found else "Call it in __init__"
            raise ConfigError("save_hyperparameters(name)", missing, reason, fix)
        return {name: found[name] for name in names}

    def _keep(self, values: Any) -> None:
        if isinstance(values, Namespace):
            values = vars(values)
        elif dataclasses.is_dataclass(values) and not isinstance(values, type):
            values = {f.name: getattr(values, f.name) for f in dataclasses.fields(values)}
        mine: Any = self.hparams
        if isinstance(values, dict) and isinstance(mine, dict):
            cast("dict[str, Any]", mine).update(cast("dict[str, Any]", values))
        elif isinstance(values, MutableMapping):  # an OmegaConf config stays one
            vars(self)["_hparams"] = values
        else:
            reason = f"a {type(values).__name__} holds no names"
            fix = "Give names of arguments, or a dict, Namespace, dataclass or OmegaConf config"
            raise ConfigError("save_hyperparameters(...)", values, reason, fix)


def hparams_entries(item: HyperparametersMixin) -> dict[str, Any]:
    """What of an object's hyperparameters goes into a checkpoint, under the names its layout has."""
    if not item.hparams:
        return {}
    values: Any = item.hparams
    entries: dict[str, Any] = {
        item.CHECKPOINT_HYPER_PARAMS_KEY: dict(cast("dict[str, Any]", values)),
        item.CHECKPOINT_HYPER_PARAMS_NAME: item._hparams_name,  # pyright: ignore[reportPrivateUsage]
    }
    if not isinstance(values, dict):
        from omegaconf import OmegaConf

        entries[item.CHECKPOINT_HYPER_PARAMS_KEY] = OmegaConf.to_container(values)
        entries[item.CHECKPOINT_HYPER_PARAMS_TYPE] = "omegaconf"
    return entries


def _quoted(name: str) -> str:
    return f'"{name}":'


def _has_names(item: Any) -> bool:
    """An empty container, or None, is not an error: there is nothing to keep."""
    return bool(item) or isinstance(item, (int, float))


def _copy(values: Any) -> Any:
    """A deep copy; modules, and what cannot be copied, are shared."""
    if not isinstance(values, dict):
        return copy.deepcopy(values)
    return HParams({name: _copy_one(value) for name, value in cast("dict[str, Any]", values).items()})


def _copy_one(value: Any) -> Any:
    if isinstance(value, nn.Module):
        return value
    try:
        return copy.deepcopy(value)
    except Exception:  # whatever an object's own copying may raise
        return value


def _warn_of_modules(owner: str, values: Any) -> None:
    for name, value in values.items():
        if isinstance(value, nn.Module):
            warnings.warn(
                f"save_hyperparameters() of {owner} keeps {name!r}, an nn.Module: its weights are in the "
                f"checkpoint anyway. Use save_hyperparameters(ignore=[{name!r}]).",
                stacklevel=3,
            )


class ClashError(ConfigError, RuntimeError):
    """Module and data module call different things by one name."""


def logged_hparams(datamodule: HyperparametersMixin | None, module: HyperparametersMixin) -> dict[str, Any]:
    """The hyper parameters of both, as loggers get them: one table.

    Raises:
        ClashError: When a name has one value here and another there.
    """
    found = [
        dict(owner.hparams_initial)
        for owner in (datamodule, module)
        if owner is not None and owner.hparams and getattr(owner, "_log_hyperparams", True)
    ]
    if len(found) == 2:
        clashing = [
            name for name, value in found[0].items() if name in found[1] and value is not found[1][name]
        ]
        clashing = [name for name in clashing if not _alike(found[0][name], found[1][name])]
        if clashing:
            reason = f"module and data module have other values under {', '.join(clashing)}"
            fix = (
                "Rename one of the two, or leave one out with save_hyperparameters(ignore=..., logger=False)"
            )
            raise ClashError("fit(datamodule)", type(datamodule).__name__, reason, fix)
    merged = {name: value for values in found for name, value in values.items()}
    merged.pop("_class_path", None)
    return merged


def _alike(one: Any, other: Any) -> bool:
    """Whether two values are equal; those that cannot say so count as equal."""
    try:
        return one is other or (type(one) is type(other) and bool(one == other))
    except (RuntimeError, ValueError):  # of arrays, each element says so
        return str(one) == str(other)
