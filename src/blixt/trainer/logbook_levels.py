"""In which hooks `self.log` has a meaning, and what it means there unless told otherwise."""

import sys
from types import FrameType
from typing import NamedTuple

from blixt.fabric import ConfigError


class Level(NamedTuple):
    """What a hook does with a logged value.

    Attributes:
        on_step: Give it out at steps, by default.
        on_epoch: Give out its epoch value, by default.
        steps: Whether the hook runs once a batch, so that `on_step=True` is possible.
    """

    on_step: bool
    on_epoch: bool
    steps: bool


_STEP, _EPOCH, _EPOCH_ONLY = Level(True, False, True), Level(False, True, True), Level(False, True, False)

_STEP_HOOKS = (
    "training_step",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "optimizer_zero_grad",
    "on_before_backward",
    "backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "configure_gradient_clipping",
    "clip_gradients",
    "optimizer_step",
)
_EPOCH_HOOKS = tuple(
    name
    for kind in ("validation", "test")
    for name in (f"{kind}_step", f"on_{kind}_batch_start", f"on_{kind}_batch_end")
)
_EPOCH_ONLY_HOOKS = tuple(
    f"on_{kind}_{moment}"
    for kind in ("train", "validation", "test")
    for moment in ("start", "epoch_start", "epoch_end")
)

LEVELS: dict[str, Level] = {
    **dict.fromkeys(_STEP_HOOKS, _STEP),
    **dict.fromkeys(_EPOCH_HOOKS, _EPOCH),
    **dict.fromkeys(_EPOCH_ONLY_HOOKS, _EPOCH_ONLY),
}

_NEVER = frozenset(
    (
        *("prepare_data", "configure_model", "configure_optimizers", "configure_callbacks"),
        *(f"{stage}_dataloader" for stage in ("train", "val", "test", "predict")),
        *("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"),
        *(
            f"on_{kind}_model_{mode}"
            for kind in ("validation", "test", "predict")
            for mode in ("eval", "train")
        ),
        *("on_validation_model_zero_grad", "on_save_checkpoint", "on_load_checkpoint"),
    )
)
"""Hooks that run without being noted, because nothing is ever logged in them."""


def misplaced(name: str) -> ConfigError:
    """What to say of a `log` when no hook runs in which it has a meaning; names the hook it came from."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage] - only for a sentence
    while frame is not None and frame.f_code.co_name not in _NEVER:
        frame = frame.f_back
    if frame is None:
        reason, fix = "no hook of the Trainer runs now", "Call log in a step, batch or epoch hook"
    else:
        reason = f"logging has no meaning in {frame.f_code.co_name}"
        fix = "Log in a step, batch or epoch hook, or use self.logger directly"
    return ConfigError("log(name)", name, reason, fix)


def level_of(hook: str, name: str, on_step: bool | None, on_epoch: bool | None) -> tuple[bool, bool]:
    """Whether `name`, logged in `hook`, is given out at steps and over the epoch.

    Raises:
        ConfigError: When nothing is logged in that hook, or not at that level.
    """
    level = LEVELS.get(hook)
    if level is None:
        reason = f"logging has no meaning in {hook}"
        raise ConfigError(
            "log(name)", name, reason, "Log in a step, batch or epoch hook, or use self.logger directly"
        )
    at_steps = level.on_step if on_step is None else on_step
    over_epoch = level.on_epoch if on_epoch is None else on_epoch
    if at_steps and not level.steps:
        raise ConfigError("log(on_step)", True, f"{hook} runs once an epoch", "Leave on_step out")
    if not over_epoch and not level.steps:
        raise ConfigError("log(on_epoch)", False, f"{hook} runs once an epoch", "Leave on_epoch out")
    if not (at_steps or over_epoch):
        reason = "with on_step=False and on_epoch=False it is not useful: nobody gets the value"
        raise ConfigError("log(on_epoch)", False, reason, "Set one of the two")
    return at_steps, over_epoch
