"""What a module has to bring for each call of the Trainer, and what it must not bring any more."""

import inspect
import warnings
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, cast

from blixt.fabric import ConfigError, rank_zero_warn
from blixt.fabric.rank_zero import PossibleUserWarning
from blixt.trainer.datamodule import DataModule
from blixt.trainer.hooks import overridden
from blixt.trainer.module import Module

_FORMER = {
    f"{stage}_epoch_end": (f"{stage}_step", f"on_{stage}_epoch_end")
    for stage in ("training", "validation", "test")
}
_FORMER["training_epoch_end"] = ("training_step", "on_train_epoch_end")


class FormerHookError(ConfigError, NotImplementedError):
    """A hook that Lightning called before 2.0, and nobody calls now."""


_NEAR = 0.92
"""How alike two names are, from 0 to 1, of which one is taken for a misspelling of the other."""


_SHOWN = 3
"""How many names a warning lists."""


class SignatureError(ConfigError, RuntimeError, TypeError):
    """A step or hook of the module takes other arguments than it will be given."""


def refuse_former_hooks(module: Module) -> None:
    """Name hooks that would silently never run.

    Raises:
        FormerHookError: For `training_epoch_end` and its kin, and for `configure_sharded_model`.
    """
    for name, (step, instead) in _FORMER.items():
        if callable(getattr(module, name, None)):
            reason = "nobody calls it, and no list of outputs is kept"
            fix = f"Keep in {step} what you need, in a list of the module, and read it in {instead}"
            raise FormerHookError(f"{type(module).__name__}()", name, reason, fix)
    if callable(getattr(module, "configure_sharded_model", None)):
        reason = "nobody calls it, so what it makes would be missing"
        fix = "Rename it to configure_model, which may be called twice: make only what is not there yet"
        raise FormerHookError(f"{type(module).__name__}()", "configure_sharded_model", reason, fix)


def tell_of_near_hooks(module: Module) -> None:
    """Name methods that look like a misspelt hook: nobody would call them, and nothing would say so."""
    known = [name for name in dir(Module) if not name.startswith("_") and callable(getattr(Module, name))]
    own = {
        name for kind in type(module).__mro__ for name in vars(kind) if kind.__module__ != Module.__module__
    }
    for name in sorted(own - set(dir(Module))):
        if name.startswith("_") or not callable(getattr(type(module), name, None)):
            continue
        near = get_close_matches(name, known, n=1, cutoff=_NEAR)
        if near and not overridden(module, near[0], Module):
            owner = type(module).__name__
            rank_zero_warn(
                f"Nobody calls {owner}.{name}. If {near[0]} is meant, rename it.",
                category=PossibleUserWarning,
            )


def warn_of_evaluation_mode(module: Module) -> None:
    """Say which parts a fit leaves in evaluation mode: frozen parts stay as they are, so it switches none."""
    parts = cast("Iterable[tuple[str, Any]]", module.named_modules())
    names = [name or "the module itself" for name, part in parts if not part.training]
    if names:
        shown = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
        rank_zero_warn(
            f"Found {len(names)} module(s) in eval mode at the start of training: {shown}. They stay in it; "
            "call .train() on them before fit unless that is meant.",
            category=PossibleUserWarning,
        )


def needed(call: str, module: Module, name: str) -> Callable[..., Any]:
    """The module's method, which the call cannot do without.

    Raises:
        ConfigError: When it is None, which some set to go without it.
    """
    method = getattr(module, name)
    if method is None:
        reason = f"its {name} is None"
        raise ConfigError(f"{call}(model)", type(module).__name__, reason, f"Write {name}")
    return method


def check_fit(module: Module, datamodule: DataModule | None, given: Any) -> None:
    """Say what is missing before anything is prepared.

    Args:
        module: To train.
        datamodule: Where loaders may come from.
        given: The training loaders that were given.

    Raises:
        ConfigError: When there is no step, no data or no optimizer.
    """
    refuse_former_hooks(module)
    tell_of_near_hooks(module)
    if not overridden(module, "training_step", Module):
        reason = "it says nothing about what a step is"
        raise ConfigError("fit(model)", type(module).__name__, reason, "Write training_step")
    _check_step(module)
    if given is None and not has_loader("train", module, datamodule):
        reason = "there is nothing to train on"
        raise ConfigError("fit(train_dataloaders)", None, reason, "Give a loader, or write train_dataloader")
    if module.automatic_optimization and not overridden(module, "configure_optimizers", Module):
        reason = "it has no configure_optimizers, so nothing would be trained"
        fix = "Write configure_optimizers and return an optimizer"
        raise ConfigError("fit(model)", type(module).__name__, reason, fix)


def _check_step(module: Module) -> None:
    if hasattr(module.training_step, "__wrapped__"):
        return  # a decorator may fill in what the function itself asks for
    parameters = inspect.signature(module.training_step).parameters.values()
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return
    needed = [p.name for p in places if p.default is p.empty]
    if not places or len(needed) > 2:
        shown = ", ".join(needed) or "no argument"
        raise SignatureError("training_step()", shown, "it is given batch and batch_idx", "Take these two")


def has_loader(stage: str, module: Module, datamodule: DataModule | None) -> bool:
    """Whether module or data module bring a loader of their own."""
    name = f"{stage}_dataloader"
    if datamodule is not None and overridden(datamodule, name, DataModule):
        return True
    return overridden(module, name, Module)


def can_validate(module: Module, datamodule: DataModule | None, given: Any, wanted: bool = True) -> bool:
    """Whether a fit validates: there are batches, and a step for them. Either without the other is told.

    Args:
        module: Of the fit.
        datamodule: Of the fit.
        given: Loaders that were given to it.
        wanted: Whether validation is asked for at all.
    """
    loader = given is not None or has_loader("val", module, datamodule)
    step = overridden(module, "validation_step", Module)
    if wanted and loader and not step:
        warnings.warn(
            f"fit will not validate: there is a loader for it, but {type(module).__name__} has no "
            "validation_step. Write one, or say Trainer(limit_val_batches=0).",
            stacklevel=2,
        )
    if wanted and step and not loader:
        rank_zero_warn(
            f"fit will not validate: {type(module).__name__} has a validation_step, but there is no "
            "loader for it. Give val_dataloaders=, or write val_dataloader.",
            category=PossibleUserWarning,
        )
    return loader and step


def check_batch_hook(method: Callable[..., Any], name: str, leading: int, several: bool) -> None:
    """Compare what a hook of the module takes with what it will be given.

    Args:
        method: The module's own.
        name: Of the hook.
        leading: How many arguments come before `dataloader_idx`.
        several: Whether `dataloader_idx` is given, because there are several loaders.

    Raises:
        SignatureError: When they do not fit.
    """
    parameters = inspect.signature(method).parameters.values()
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_all = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if several and not takes_all and len(places) <= leading:
        reason = "several loaders are given and it takes no dataloader_idx"
        raise SignatureError(
            f"{name}()", f"{len(places)} argument(s)", reason, "Add the argument dataloader_idx=0"
        )
    if not several and len([p for p in places if p.default is p.empty]) > leading:
        reason = "only one loader is given and it asks for more"
        raise SignatureError(f"{name}()", places[leading].name, reason, "Leave it out, or give it a default")
