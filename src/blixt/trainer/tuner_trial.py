"""Train or evaluate a little on the side, and leave no trace in module and trainer."""

import copy
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import torch

from blixt.fabric import isolate_rng
from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.trainer.datamodule import DataModule
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer

_DONE_ALREADY = ("prepare_data", "setup", "teardown", "configure_model", "on_fit_start", "on_fit_end")


def branch(trainer: "Trainer", callbacks: list[Callback], **changes: Any) -> "Trainer":
    """A trainer for a trial: same processes and devices, nothing of the run so far.

    Args:
        trainer: The original; it is not touched.
        callbacks: What the trial needs, instead of the original's.
        changes: Of the configuration, by the names of `TrainerConfig`.
    """
    twin = copy.copy(trainer)
    twin.start_anew(callbacks, replace(trainer.config, **changes))
    return twin


@contextmanager
def on_trial(trainer: "Trainer", module: "Module", datamodule: "DataModule | None" = None) -> Generator[None]:
    """Afterwards weights, modes, gradients, random numbers and owners are as they were before.

    Weights are kept on the CPU, shard by shard where they are sharded. Within a fit, hooks that have had
    their turn are not called again.
    """
    tensors = dict(chain(module.named_parameters(), module.named_buffers()))
    kept = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
    modes = {child: child.training for child in module.modules()}
    trained = {name: p.requires_grad for name, p in module.named_parameters()}
    hidden: list[Any] = [module, datamodule] if trainer.stage is not None else []
    owners = [item for item in hidden if item is not None]
    attributes_of = [cast("dict[str, Any]", vars(owner)) for owner in owners]
    before = [dict(attributes) for attributes in attributes_of]
    for owner, attributes in zip(owners, attributes_of, strict=True):
        attributes.update({name: _nothing for name in _DONE_ALREADY if hasattr(owner, name)})
    try:
        with isolate_rng(trainer.fabric.device):
            yield
    finally:
        for owner, attributes, earlier in zip(owners, attributes_of, before, strict=True):
            for name in _DONE_ALREADY:
                attributes.pop(name, None)
            attributes.update({name: earlier[name] for name in _DONE_ALREADY if name in earlier})
            owner.trainer = trainer
        _restore(module, kept, trained)
        for child, mode in modes.items():
            child.training = mode


@torch.no_grad()
def _restore(module: "Module", kept: dict[str, torch.Tensor], trained: dict[str, bool]) -> None:
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        if name in kept:
            tensor.data.copy_(_laid_out_like(tensor, kept[name]))
    for name, parameter in module.named_parameters():
        parameter.grad = None
        parameter.requires_grad = trained.get(name, parameter.requires_grad)


def _laid_out_like(tensor: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """What was kept, in shards if the trial has sharded the module in the meantime."""
    if not hasattr(tensor, "placements") or hasattr(kept, "placements"):
        return kept
    from torch.distributed.tensor import DTensor, distribute_tensor

    sharded = cast("DTensor", tensor)
    return distribute_tensor(kept.to(tensor.device), sharded.device_mesh, sharded.placements)


def _nothing(*_: Any) -> None:
    """In the place of a hook that has been called already."""
