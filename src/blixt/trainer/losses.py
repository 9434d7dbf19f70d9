"""The loss in what `training_step` returned, and what to say when there is none."""

import warnings
from collections.abc import Mapping
from typing import Any, cast

import torch

from blixt.fabric import ConfigError


def loss_in(output: Any) -> torch.Tensor | None:
    """The loss of a `training_step`; None when it skips the batch."""
    if output is None or isinstance(output, torch.Tensor):
        return output
    loss = cast("Mapping[str, Any]", output).get("loss") if isinstance(output, Mapping) else None
    if not isinstance(loss, torch.Tensor):
        raise wrong_output(output)
    return loss


def extras(output: Any) -> dict[str, Any]:
    """What `training_step` returned beside its loss."""
    return dict(cast("Mapping[str, Any]", output)) if isinstance(output, Mapping) else {}


def wrong_output(output: Any) -> ConfigError:
    """What to say about a `training_step` that returned something no loss can be found in."""
    if isinstance(output, Mapping):
        loss = cast("Mapping[str, Any]", output).get("loss")
        if loss is not None:
            kind = type(loss).__name__
            return ConfigError("training_step(loss)", kind, "it is no tensor", "Return the loss as it is")
        given = sorted(str(key) for key in cast("Mapping[str, Any]", output))
        return ConfigError("training_step()", given, "the dict has no 'loss'", "Add the key 'loss'")
    reason = "it is no loss: a tensor, a dict with 'loss', or None to skip the batch"
    return ConfigError("training_step()", type(output).__name__, reason, "Return the loss")


def explain_backward(loss: torch.Tensor, error: RuntimeError) -> None:
    """Raise a clear sentence for the usual reasons why backward fails; do nothing for others."""
    if loss.numel() != 1:
        reason = f"the loss has shape {tuple(loss.shape)} and only one number has a gradient"
        raise ConfigError("training_step()", tuple(loss.shape), reason, "Return loss.mean()") from error
    if not loss.requires_grad:
        reason = (
            "the loss does not require a gradient: it was computed without trained parameters, or detached"
        )
        raise ConfigError("training_step()", "loss", reason, "Return a loss that depends on them") from error


def tell_of_lost(loss: torch.Tensor | None, batch: int, epoch: int) -> bool:
    """Warn when there was no loss, or it is NaN or infinite; returns whether so. Waits for the device.

    Args:
        loss: The newest, if there is one.
        batch: Whose.
        epoch: In which.
    """
    if loss is None:
        warnings.warn(
            f"training_step()=None: no batch of epoch {epoch} had a loss, so that it moved no weights. "
            "Return the loss, or set automatic_optimization = False.",
            stacklevel=5,
        )
        return True
    if bool(loss.isfinite().all()):
        return False
    warnings.warn(
        f"training_step()={loss.flatten()[0].item()}: the loss of batch {batch} in epoch {epoch} is no "
        "finite number, and training on will not mend the weights. Find the operation with "
        "Trainer(detect_anomaly=True), lower the learning rate, set gradient_clip_val, or let EarlyStopping "
        "end such runs.",
        stacklevel=5,
    )
    return True
