"""The loop of validate, test and predict."""

import inspect
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, cast

import torch
from torch import nn

from blixt.fabric import Fabric
from blixt.fabric.agree import AFTER
from blixt.trainer.combined_steps import takes_iterator
from blixt.trainer.complete import SignatureError, check_batch_hook
from blixt.trainer.evaluate_drawn import DrawnEvaluation, limited
from blixt.trainer.hooks import HookPlan, overridden
from blixt.trainer.loaders import StageLoader, Transfer
from blixt.trainer.logbook import Logbook, Page
from blixt.trainer.module import Module
from blixt.trainer.state import RunningStage, TrainerState

Kind = Literal["validation", "test", "predict"]
ALL_BATCHES = AFTER - 1
"""Where `leaves` is asked for the last time: after the batches of all loaders, however many this rank has."""


class BrokenOffError(Exception):
    """`leaves` said so: not all batches have run, and nothing of them counts."""


class WriteRow(Protocol):
    """Takes a row for the loggers."""

    def __call__(self, row: dict[str, Any], step: int | None = None, epoch: bool = True) -> None:
        """Send `row` under `step` (None: the newest), with the number of the epoch or without."""
        ...


class Evaluation:
    """Everything about running one kind of evaluation that can be known before its first batch.

    Args:
        kind: Which steps and hooks run.
        module: Whose.
        fabric: On which device, in which precision.
        hooks: Of module and callbacks.
        logbook: For `self.log`.
        loaders: Run one after the other.
        transfer: The transfer hooks, or None.
        inference_mode: Use torch's inference mode; else only no gradients.
        write_row: Takes the row of each step and of the end, with the step number or None; None when nobody
            reads rows.
        profile: Wraps what is measured; leaves it alone without a profiler.
        state: Of the trainer; says "validate" while this runs within a fit.
        watched: Iterates over batches, measured if there is a profiler.

    Attributes:
        index: The batch that runs now, or ran last, of its loader.
        loader_index: Which loader that is.
        total_index: Counts the batches of all runs, from 0.
        keeps_indices: Remember which samples the batches hold.
        batch_indices: The samples of the running batch, where the loader knows them.
        epoch_indices: Those of all batches so far, by loader.
    """

    def __init__(
        self,
        kind: Kind,
        module: Module,
        fabric: Fabric,
        hooks: HookPlan,
        logbook: Logbook,
        loaders: Sequence[StageLoader],
        transfer: Transfer | None,
        inference_mode: bool,
        write_row: WriteRow | None,
        profile: Callable[[Callable[..., Any], str], Callable[..., Any]] = lambda function, label: function,
        state: TrainerState | None = None,
        watched: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    ) -> None:
        self.kind: Kind = kind
        self.loaders = list(loaders)
        self.steps = [0] * len(self.loaders)
        self.index = self.loader_index = self.total_index = -1
        self.running = self.keeps_indices = self._told_of_none = False
        self._leaves: Callable[[int], bool] | None = None
        self._done = 0
        self.batch_indices: list[int] | None = None
        self.epoch_indices: list[list[list[int]]] = []
        self._module = module
        self._fabric = fabric
        self._hooks = hooks
        self._logbook = logbook
        self._transfer = transfer
        self._inference_mode = inference_mode
        self._write_row = write_row
        self._state = state or TrainerState()
        self._watched = watched
        self._several = len(self.loaders) > 1
        name = f"{kind}_step"
        self._drawn = takes_iterator(getattr(module, name))
        self._arguments = 1 if self._drawn else _arguments_of(getattr(module, name), name, self._several)
        for hook, leading in ((f"on_{kind}_batch_start", 2), (f"on_{kind}_batch_end", 3)):
            if overridden(module, hook, Module):
                check_batch_hook(getattr(module, hook), hook, leading, self._several)
        step = fabric.precision.wrap(evaluation_step(module, fabric, name), fabric.device)
        self._step = profile(step, f"[Strategy]{type(fabric.strategy).__name__}.{name}")
        self._before = hooks.of(f"on_{kind}_batch_start")
        self._after = hooks.of(f"on_{kind}_batch_end")

    def run(
        self,
        epoch: int = 0,
        max_batches: int | None = None,
        keep_outputs: bool = False,
        row_step: int | None = None,
        leaves: Callable[[int], bool] | None = None,
    ) -> Any:
        """Run all loaders.

        Args:
            epoch: For loaders that want to know.
            max_batches: Of each loader; None or -1 for as many as configured.
            keep_outputs: Return what the steps returned, a list a loader, instead of metrics.
            row_step: The step under which the loggers get the metrics.
            leaves: Asked after each batch, with the number of batches so far, whether to break off; last of
                all with `ALL_BATCHES`.

        Returns:
            The epoch metrics of all loaders, or the outputs.

        Raises:
            BrokenOffError: When `leaves` said so.
        """
        kind, hooks, logbook, state = self.kind, self._hooks, self._logbook, self._state
        stage = state.stage
        if stage is RunningStage.TRAINING:
            state.stage = RunningStage.VALIDATING
        modes = {module: module.training for module in self._module.modules()}
        self._module_hook("model_eval")
        before = logbook.turn_to(Page(), len(self.loaders))
        self.running = True
        self._leaves, self._done = leaves, 0
        self.epoch_indices = [[] for _ in self.loaders]
        try:
            with self._no_gradients():
                hooks.call(f"on_{kind}_start")
                hooks.call(f"on_{kind}_epoch_start")
                if self._drawn:
                    outputs = self._run_drawn(epoch, max_batches, keep_outputs)
                else:
                    outputs = [
                        self._run_loader(index, loader, epoch, max_batches, keep_outputs)
                        for index, loader in enumerate(self.loaders)
                    ]
                self._leave_if_told(ALL_BATCHES)
                logbook.loader = 0
                if kind != "predict":
                    logbook.close_epoch()
                hooks.call(f"on_{kind}_epoch_end")
                row = {} if kind == "predict" else logbook.collect_epoch()
                if self._write_row is not None:
                    self._write_row(row, row_step)
                hooks.call(f"on_{kind}_end")
        finally:
            logbook.turn_to(*before)
            self._switch_back(modes)
            self.running = False
            state.stage = stage
        return outputs if keep_outputs else row

    def _run_loader(
        self, index: int, loader: StageLoader, epoch: int, max_batches: int | None, keep: bool
    ) -> list[Any]:
        total = limited(loader, max_batches)
        outputs: list[Any] = []
        if total == 0:
            return outputs
        self._logbook.loader = self.loader_index = index
        loader.batches.set_epoch(epoch)
        if self.keeps_indices:
            cast("Any", loader.batches).keep_indices = True
        for position, batch in enumerate(self._watched(loader.batches)):
            if self.keeps_indices:
                self._remember(index, loader)
            output = self._run_batch(batch, position, index)
            if keep:
                self._tell_of_none(output)
                outputs.append(output)
            self._done += 1
            self._leave_if_told(self._done)
            if position + 1 == total:
                break
        loader.batches.end_epoch()
        return outputs

    def _run_drawn(self, epoch: int, max_batches: int | None, keep: bool) -> list[list[Any]]:
        """Of a step that draws its batches itself; hooks before it see the batch that was drawn last."""
        outputs: list[list[Any]] = [[] for _ in self.loaders]
        drawn = DrawnEvaluation(self.loaders, epoch, max_batches, self._watched, self._turn_to)
        while not drawn.done:
            for hook in self._before:
                hook(*self._places(drawn.batch, drawn.batch_idx, drawn.dataloader_idx))
            output = self._call_step(drawn)
            index = drawn.dataloader_idx
            for hook in self._after:
                hook(output, *self._places(drawn.batch, drawn.batch_idx, index))
            self._write_step(index)
            if keep:
                self._tell_of_none(output)
                outputs[index].append(output)
            self.index = drawn.batch_idx
            self._done = drawn.count
            self._leave_if_told(self._done)
        return outputs

    def _turn_to(self, batch: Any, index: int) -> None:
        self._logbook.batch = batch
        self._logbook.loader = self.loader_index = index

    def _tell_of_none(self, output: Any) -> None:
        if output is None and not self._told_of_none:
            self._told_of_none = True
            warnings.warn(
                f"{type(self._module).__name__}.predict_step returned None, which is kept as a prediction. "
                "Return the answer, or call predict(return_predictions=False).",
                stacklevel=5,
            )

    def _leave_if_told(self, done: int) -> None:
        if self._leaves is not None and self._leaves(done):
            raise BrokenOffError

    def _run_batch(self, batch: Any, position: int, index: int) -> Any:
        if self._transfer is not None:
            batch = self._transfer(batch, index)
        self._logbook.batch = batch
        self.index = position
        self.total_index += 1
        places = self._places(batch, position, index)
        for hook in self._before:
            hook(*places)
        output = self._call_step(*places[: self._arguments])
        for hook in self._after:
            hook(output, *places)
        self._write_step(index)
        return output

    def _places(self, batch: Any, position: int, index: int) -> tuple[Any, ...]:
        return (batch, position, index) if self._several else (batch, position)

    def _call_step(self, *arguments: Any) -> Any:
        self._logbook.hook = f"{self.kind}_step"
        output = self._step(*arguments)
        self._logbook.hook = None
        return output

    def _write_step(self, index: int) -> None:
        if self._write_row is not None and self.kind != "predict":
            row = self._logbook.collect_step()
            if row:
                self._write_row(row, self.steps[index], epoch=False)
            self.steps[index] += 1

    def _remember(self, index: int, loader: StageLoader) -> None:
        self.batch_indices = cast("list[int] | None", cast("Any", loader.batches).indices)
        if self.batch_indices is not None:
            self.epoch_indices[index].append(self.batch_indices)

    def _module_hook(self, name: str) -> None:
        getattr(self._module, f"on_{self.kind}_{name}")()

    def _switch_back(self, modes: dict[nn.Module, bool]) -> None:
        if overridden(self._module, f"on_{self.kind}_model_train", Module):
            self._module_hook("model_train")  # who brings it decides about every submodule
            return
        for module, mode in modes.items():
            module.training = mode

    def _no_gradients(self) -> AbstractContextManager[Any]:
        # gloo's threads change tensors outside of inference mode, and FSDP keeps those it gathers.
        alone = self._fabric.world_size == 1
        return torch.inference_mode() if self._inference_mode and alone else torch.no_grad()


def evaluation_step(module: Module, fabric: Fabric, name: str) -> Callable[..., Any]:
    """How to call a step without gradients.

    DDP has nothing to do there, and its wrapper would wait for processes whose loader is shorter; strategies
    that spread the parameters have to see the call.
    """
    if not fabric.strategy.wraps_evaluation:
        return getattr(module, name)
    return fabric.strategy.forward_of(module, name, fabric.device)[0]


def _unwrapped(step: Callable[..., Any]) -> Callable[..., Any]:
    """The user's own function, where a strategy has wrapped it in the run before."""
    inner = getattr(step, "__wrapped__", None)
    return inner if inspect.ismethod(inner) else step


def _arguments_of(step: Callable[..., Any], name: str, several: bool) -> int:
    """How many of (batch, batch_idx, dataloader_idx) to pass."""
    wanted = step_arguments(step)
    if several and wanted < 3:
        reason = "several loaders are given and it takes no dataloader_idx"
        raise SignatureError(
            f"{name}()", f"{wanted} argument(s)", reason, "Add the argument dataloader_idx=0"
        )
    required = [p for p in _positional(step) if p.default is p.empty]
    if not several and len(required) > 2:
        reason = "only one loader is given and it asks for more than batch and batch_idx"
        raise SignatureError(f"{name}()", required[2].name, reason, "Leave it out, or give it a default")
    return wanted


def step_arguments(step: Callable[..., Any]) -> int:
    """How many of (batch, batch_idx, dataloader_idx) a step takes."""
    step = _unwrapped(step)
    parameters = inspect.signature(step).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 3
    return min(3, len(_positional(step)))


def _positional(step: Callable[..., Any]) -> list[inspect.Parameter]:
    parameters = inspect.signature(_unwrapped(step)).parameters.values()
    return [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
