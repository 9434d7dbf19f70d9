"""Checkpoints that a run goes on from as if it had never stopped.

A checkpoint is one file, written whole or not at all: weights, optimizer states, the data's position, every
rank's random state and the number of steps. Learning rates need no state, they follow from the step. With
another number of ranks the data goes on at the same block; random state is then drawn anew from the seed and
the step, because there is one for each rank. `run.json` beside the checkpoints holds the settings that make
the run what it is, and another value is refused; those that may change are told when they do.
"""

import json
import os
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Timer
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from blixt.fabric import CheckpointError, Fabric, capture_rng, restore_rng, seed_everything
from blixt.fabric.collectives import all_gather_objects
from blixt.llm.errors import RecipeError
from blixt.llm.recipes.identity import changes, check
from blixt.trainer.stop import SignalHandlers, StopAgreement

_NAME = re.compile(r"step-(\d+)\.ckpt")
_IDENTITY, _MAY_CHANGE = "run.json", "may change"
_RUNS = count()  # of this process, because several may follow one another


@dataclass(frozen=True)
class ResumeConfig:
    """When a run is written down, and where it goes on.

    Attributes:
        dir: Folder of the checkpoints; none is "checkpoints" beside what the recipe writes.
        every: Steps between two checkpoints; 0 is only at the end of the run.
        keep: How many of the newest to keep.
        resume: Go on from the newest one, when there is one. False begins anew and overwrites.
        stop_after_s: Save and end after the step in which so many seconds are over, counted from this
            start; a restart goes on. None ends with the last step.
    """

    dir: str | None = None
    every: int = 100
    keep: int = 1
    resume: bool = True
    stop_after_s: float | None = None

    def __post_init__(self) -> None:
        if self.stop_after_s is not None and self.stop_after_s <= 0:
            raise RecipeError(f"checkpoint.stop_after_s is {self.stop_after_s}: it must be above 0")
        if self.every < 0 or self.keep < 1:
            raise RecipeError(
                f"checkpoint.every={self.every}, checkpoint.keep={self.keep}: use every >= 0 and keep >= 1"
            )


class Checkpoints:
    """Writes and reads the checkpoints of one run; every rank calls every method.

    Args:
        fabric: Launched.
        folder: Where they lie; all ranks see it.
        config: When and how many.
        identity: Settings that make it this run: another value on resuming is refused.
        seed: Of the run, for ranks that have no random state of their own.
        may_change: Settings that a restart may change; `going_on` tells when it does.

    Example:
        ```python
        checkpoints = Checkpoints(fabric, folder, config.checkpoint, {"model": config.model}, config.seed)
        state = TrainState(model, optimizers, loader)
        progress = checkpoints.restore(state) or {"step": 0}
        ...
        checkpoints.save(step, state, {"best": best})
        ```
    """

    def __init__(
        self,
        fabric: Fabric,
        folder: str | Path,
        config: ResumeConfig,
        identity: Mapping[str, Any],
        seed: int = 0,
        may_change: Mapping[str, Any] | None = None,
    ) -> None:
        self.fabric, self.folder, self.config, self.seed = fabric, Path(folder), config, seed
        self.identity, self.may_change = dict(identity), dict(may_change or {})
        self.going_on = ""

    def due(self, step: int, last: int) -> bool:
        """Whether to save now that `step` of `last` steps are done."""
        return step == last or (self.config.every > 0 and step % self.config.every == 0)

    def newest(self) -> Path | None:
        """The newest complete checkpoint, the same on all ranks; None for a run that begins."""
        found = _numbered(self.folder) if self.fabric.is_global_zero else []
        return self.fabric.broadcast(found[-1] if found and self.config.resume else None)

    def save(self, step: int, state: "TrainState", more: Mapping[str, Any] | None = None) -> Path:
        """Write the checkpoint after `step` steps; `more` are plain values that `restore` gives back."""
        path = self.folder / f"step-{step:08d}.ckpt"
        rng = all_gather_objects(capture_rng(self.fabric.device))
        progress = {**(more or {}), "step": step}
        content = {**state.parts(), "rng": rng, "progress": progress}
        self.fabric.save(path, content, filter={"model": state.keeps})
        if self.fabric.is_global_zero:
            self._remove_but(path)
        self.fabric.barrier()
        return path

    def restore(self, state: "TrainState") -> dict[str, Any] | None:
        """Put the newest checkpoint into `state`, and random states back.

        Returns:
            `step` and what was saved with it; None when there is no checkpoint to go on from.

        Raises:
            RecipeError: It belongs to a run with other settings, or trained other parameters.
            CheckpointError: It cannot be read.
        """
        newest = self.newest()
        if newest is None:
            if self.fabric.is_global_zero:
                self._begin()
            self.fabric.barrier()
            return None
        changed = self._check()
        content = state.restore(self.fabric, newest)
        progress: dict[str, Any] = dict(content["progress"])
        self.going_on = f"going on after step {progress['step']}{changed}"
        self._restore_rng(content["rng"], int(progress["step"]))
        return progress

    def _begin(self) -> None:
        self._remove_but(None)
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / ".run.json.partial"
        begun = {**self.identity, _MAY_CHANGE: self.may_change}
        partial.write_text(json.dumps(begun, indent=2) + "\n", "utf-8")
        os.replace(partial, self.folder / _IDENTITY)

    def _check(self) -> str:
        """Refuse a run with other settings; returns what else has changed."""
        try:
            saved: dict[str, Any] = json.loads((self.folder / _IDENTITY).read_text("utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            raise RecipeError(
                f"{self.folder} holds checkpoints but no readable {_IDENTITY}: choose another checkpoint.dir"
            ) from None
        check(self.identity, saved, self.folder)
        return changes(self.may_change, saved.get(_MAY_CHANGE, {}))

    def _restore_rng(self, states: Sequence[dict[str, Any]], step: int) -> None:
        rank, ranks = self.fabric.global_rank, self.fabric.world_size
        if len(states) == ranks:
            restore_rng(states[rank], self.fabric.device)
        else:
            seed_everything((self.seed * 1_000_003 + step * 8191 + rank) % 2**32)

    def _remove_but(self, newest: Path | None) -> None:
        """Delete what is older than the newest `keep`, newer ones of a run begun anew, and torn files."""
        found = _numbered(self.folder)
        older = [path for path in found if newest is not None and path <= newest][-self.config.keep :]
        stale = [path for path in found if path not in older]
        for path in [*stale, *self.folder.glob(".step-*.partial")]:
            path.unlink(missing_ok=True)


class TrainState:
    """What of a run changes while it trains.

    Args:
        model: What `fabric.setup` gave back.
        optimizers: Likewise.
        loader: Anything with `state_dict` and `load_state_dict`, in plain values; None for none.
        **others: More of the kind of `loader`, by name.
    """

    def __init__(
        self, model: nn.Module, optimizers: Sequence[Optimizer], loader: Any = None, **others: Any
    ) -> None:
        self.model, self.optimizers = model, list(optimizers)
        self.others = {**({"loader": loader} if loader is not None else {}), **others}
        named = list(model.named_parameters())
        self.trained = {name for name, parameter in named if parameter.requires_grad}
        self.whole = len(self.trained) == len(named)

    def keeps(self, name: str, value: Any) -> bool:
        """Whether a tensor of the model is written: what is frozen is the base model's, and stays there."""
        return self.whole or name in self.trained

    def parts(self) -> dict[str, Any]:
        """Everything by name, as `fabric.save` takes it."""
        optimizers = {f"optimizer{index}": item for index, item in enumerate(self.optimizers)}
        return {"model": self.model, **optimizers, **self.others}

    def restore(self, fabric: Fabric, path: Path) -> dict[str, Any]:
        """Put a checkpoint into the parts; returns what else it holds.

        Raises:
            RecipeError: It lacks a part.
            CheckpointError: It cannot be read.
        """
        parts = self.parts()
        content = fabric.load(path, parts, strict=self.whole)
        if "progress" not in content:
            raise RecipeError(f"{path} was not written by a recipe: choose another checkpoint.dir")
        return content


@contextmanager
def stopping(fabric: Fabric, step: int, after_s: float | None = None) -> Generator[StopAgreement]:
    """While inside, SIGTERM (and a cluster's requeue signal) asks all ranks to stop after the same step.

    Ask `due(step)` after each step; when it says so, save and leave the loop. The process then exits as one
    that was told to, unless it was its own time that was over.

    Args:
        fabric: Launched.
        step: Steps done so far.
        after_s: Ask so many seconds from now; None never does.
    """
    stop = StopAgreement(fabric, 1_000_000 + next(_RUNS))
    clock = Timer(after_s or 0.0, stop.request, (f"checkpoint.stop_after_s={after_s}",))
    clock.daemon = True
    with SignalHandlers(stop.request, fabric.environment):
        stop.start(step)
        if after_s is not None:
            clock.start()
        try:
            yield stop
        finally:
            clock.cancel()
            stop.close()
    code = stop.finish()
    if code is not None:
        raise SystemExit(code)


def _numbered(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest last."""
    found = [path for path in folder.glob("step-*.ckpt") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(cast("re.Match[str]", _NAME.fullmatch(path.name))[1]))


def save_best(fabric: Fabric, path: str | Path, state: TrainState) -> None:
    """Write the trained weights alone, whole or not at all; for the best ones seen."""
    fabric.save(path, {"model": state.model}, filter={"model": state.keeps})


def load_best(path: str | Path, model: nn.Module, inside: str = "") -> None:
    """Put what `save_best` wrote into an unsharded model; frozen weights stay as they are.

    Args:
        path: The file.
        model: Has the trained parameters.
        inside: What the names of the model that trained began with before those of this one: "model.".

    Raises:
        CheckpointError: There is no such file, or it holds other parameters.
    """
    from blixt.fabric.checkpoint.io import load_file

    content: dict[str, torch.Tensor] = load_file(path)["model"]
    state = {name.removeprefix(inside): tensor for name, tensor in content.items()}
    parameters = dict(model.named_parameters())
    if other := sorted(state.keys() - parameters.keys()):
        raise CheckpointError(f"{path} holds {other[0]}, which the model does not have.")
    with torch.no_grad():
        for name, tensor in state.items():
            parameters[name].copy_(tensor)
