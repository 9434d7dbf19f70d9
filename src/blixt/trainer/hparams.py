"""`save_hyperparameters`: remember what a module or data module was made with."""

import inspect
import os
from collections.abc import Iterable, Mapping
from typing import Any, Self, cast

from blixt.fabric import ConfigError


class HParams(dict[str, Any]):
    """A dict whose keys are also attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"There is no hyperparameter {name!r}. Known: {', '.join(self)}.") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class HyperparametersMixin:
    """Gives `hparams`, `save_hyperparameters` and `load_from_checkpoint`."""

    @property
    def hparams(self) -> HParams:
        """What `save_hyperparameters` kept."""
        return vars(self).setdefault("_hparams", HParams())

    def save_hyperparameters(self, *args: Any, ignore: str | Iterable[str] = ()) -> None:
        """Keep arguments of `__init__` in `hparams`, checkpoints and loggers.

        Args:
            args: Names of the arguments to keep, or one mapping to keep instead; none means all.
            ignore: Names to leave out.
        """
        if len(args) == 1 and isinstance(args[0], Mapping):
            self.hparams.update(cast("Mapping[str, Any]", args[0]))
            return
        found = _init_arguments(self)
        left_out = {ignore} if isinstance(ignore, str) else set(ignore)
        names = [name for name in (args or found) if name not in left_out]
        missing = [name for name in names if name not in found]
        if missing:
            reason = f"{type(self).__name__}.__init__ has no such argument"
            raise ConfigError("save_hyperparameters(name)", missing[0], reason, f"Known: {', '.join(found)}")
        self.hparams.update({name: found[name] for name in names})

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | os.PathLike[str],
        *,
        strict: bool = True,
        weights_only: bool = True,
        **overrides: Any,
    ) -> Self:
        """Make the object again from the hyperparameters and weights in a checkpoint.

        Args:
            checkpoint_path: What a Trainer saved.
            strict: Whether the names of all weights must match.
            weights_only: Refuse files that hold more than tensors and plain values.
            overrides: Arguments of `__init__` that are not, or not as wanted, in the file.
        """
        from blixt.fabric.checkpoint import load_file

        checkpoint = cast("dict[str, Any]", load_file(checkpoint_path, weights_only=weights_only))
        kept: dict[str, Any] = {**checkpoint.get("hyper_parameters", {}), **overrides}
        accepted = inspect.signature(cls.__init__).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
        instance = cls(**{name: v for name, v in kept.items() if takes_all or name in accepted})
        if hasattr(instance, "on_load_checkpoint"):
            cast("Any", instance).on_load_checkpoint(checkpoint)
        cast("Any", instance).load_state_dict(checkpoint["state_dict"], strict=strict)
        return instance


def _init_arguments(instance: object) -> dict[str, Any]:
    """The arguments of every `__init__` of `instance` that is running; those of subclasses win."""
    frame = inspect.currentframe()
    found: dict[str, Any] | None = None
    while frame is not None:
        if (
            frame.f_code.co_name == "__init__"
            and "self" in frame.f_locals
            and frame.f_locals["self"] is instance
        ):
            arguments = inspect.getargvalues(frame)
            values = {name: arguments.locals[name] for name in arguments.args if name != "self"}
            code = frame.f_code
            extra = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
            values |= {name: arguments.locals[name] for name in extra}
            extra_keywords: dict[str, Any] = arguments.locals.get(arguments.keywords or "") or {}
            found = {**(found or {}), **values, **extra_keywords}
        frame = frame.f_back
    if found is None:
        raise ConfigError("save_hyperparameters()", "", "it reads the arguments of __init__", "Call it there")
    return found
