"""How weights move: optimizers by kind of parameter, and learning rates as pure functions of the step."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from blixt.llm.errors import RecipeError

Schedule = Callable[[int], float]
"""From a step, counted from 0, to the factor on the learning rate."""


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its learning rate.

    Attributes:
        name: adamw for all; or muon for the matrices of the blocks and adamw for the rest.
        learning_rate: Its highest value.
        schedule: cosine, linear, constant, or wsd (warm up, stay, decay at the end).
        warmup: Over which the learning rate rises: a share of the steps below 1, else a number of steps.
        decay: For wsd, the last part over which it falls, in the same unit.
        final: Share of the learning rate that is left at the end.
        weight_decay: Of matrices; vectors (norms, biases, DoRA's magnitudes) have none.
        betas: AdamW's averages.
        eps: AdamW's least divisor.
        momentum: Muon's.
        clip: Largest norm of the gradient; 0 for no bound.
    """

    name: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 3e-4
    schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    warmup: float = 0.1
    decay: float = 0.2
    final: float = 0.1
    weight_decay: float = 0.1
    betas: tuple[float, ...] = (0.9, 0.95)
    eps: float = 1e-8
    momentum: float = 0.95
    clip: float = 1.0

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise RecipeError(f"optim.learning_rate is {self.learning_rate}: it must be above 0")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise RecipeError(f"optim.betas is {self.betas}: give two numbers from 0 to below 1")
        for name in ("warmup", "decay", "weight_decay", "clip", "final"):
            if getattr(self, name) < 0:
                raise RecipeError(f"optim.{name} is {getattr(self, name)}: it cannot be negative")


def make_schedule(config: OptimConfig, steps: int) -> Schedule:
    """The factor on the learning rate over a run of `steps` steps.

    A linear rise to 1 first, then what `config.schedule` names, down to `config.final`. "wsd" is warm-up,
    stable, decay (Hu et al. 2024, arXiv:2404.06395).

    Example:
        >>> rate = make_schedule(OptimConfig(schedule="linear", warmup=2, final=0.0), 10)
        >>> [rate(step) for step in (0, 1, 2, 6, 10)]
        [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    rise = max(1, _steps_of(config.warmup, steps)) if config.warmup else 0
    fall_at = rise if config.schedule != "wsd" else max(rise, steps - _steps_of(config.decay, steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        if config.schedule == "constant" or step < fall_at:
            return 1.0
        done = min(1.0, (step - fall_at) / max(1, steps - fall_at))
        left = 0.5 * (1 + math.cos(math.pi * done)) if config.schedule == "cosine" else 1 - done
        return config.final + (1 - config.final) * left

    return factor


def make_optimizers(model: nn.Module, config: OptimConfig) -> list[Optimizer]:
    """Optimizers of a model's trainable parameters; make them after a sharded strategy's set-up.

    Muon (Jordan 2024, scaled to AdamW's size of update after Liu et al. 2025, arXiv:2502.16982) takes the
    matrices inside of `blocks`; embeddings, the output layer, stacked experts and vectors go to AdamW.

    Raises:
        RecipeError: Nothing in the model is trainable.
    """
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not trainable:
        raise RecipeError("no parameter of the model is trainable, so there is nothing to optimise")
    hidden = [
        p for name, p in trainable if config.name == "muon" and p.dim() == 2 and ".blocks." in f".{name}"
    ]
    taken = {id(p) for p in hidden}
    rest = [p for _, p in trainable if id(p) not in taken]
    made: list[Optimizer] = []
    if hidden:
        made.append(_muon(hidden, config))
    if rest:
        made.append(_adamw(rest, config))
    return made


def set_learning_rate(optimizers: Iterable[Optimizer], learning_rate: float) -> None:
    """Give every group the same learning rate; called before each step, so that resume is arithmetic."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate


def _steps_of(amount: float, steps: int) -> int:
    return round(amount * steps) if amount < 1 else int(amount)


def _adamw(parameters: Sequence[nn.Parameter], config: OptimConfig) -> Optimizer:
    """Matrices decay, vectors do not; a group holds parameters of one mesh, which fused kernels ask for."""
    groups: dict[Any, dict[str, Any]] = {}
    for parameter in parameters:
        decay = config.weight_decay if parameter.dim() >= 2 else 0.0
        key = (decay, getattr(parameter, "device_mesh", None))
        groups.setdefault(key, {"params": [], "weight_decay": decay})["params"].append(parameter)
    return torch.optim.AdamW(
        list(groups.values()),
        lr=config.learning_rate,
        betas=(config.betas[0], config.betas[1]),
        eps=config.eps,
        fused=True,
    )


def _muon(parameters: Sequence[nn.Parameter], config: OptimConfig) -> Optimizer:
    return torch.optim.Muon(
        list(parameters),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        adjust_lr_fn="match_rms_adamw",
    )
