"""The loop of validate, test and predict."""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch

from blixt.fabric import Fabric
from blixt.trainer.hooks import HookPlan
from blixt.trainer.loaders import StageLoader, Transfer
from blixt.trainer.logbook import Logbook, Page
from blixt.trainer.module import Module

Kind = Literal["validation", "test", "predict"]


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
        write_row: Takes the row of each step and of the end, with the step number or None.
    """

    def __init__(
        self,
        kind: Kind,
        module: Module,
        fabric: Fabric,
        hooks: HookPlan,
        logbook: Logbook,
        loaders: list[StageLoader],
        transfer: Transfer | None,
        inference_mode: bool,
        write_row: Callable[[dict[str, float], int | None], None],
    ) -> None:
        self.kind: Kind = kind
        self.loaders = loaders
        self.steps = 0
        self.running = False
        self._module = module
        self._hooks = hooks
        self._logbook = logbook
        self._transfer = transfer
        self._inference_mode = inference_mode
        self._write_row = write_row
        step = getattr(module, f"{kind}_step")
        self._step = fabric.precision.wrap(step, fabric.device)
        self._arguments = step_arguments(step)
        self._before = hooks.of(f"on_{kind}_batch_start")
        self._after = hooks.of(f"on_{kind}_batch_end")

    def run(self, epoch: int = 0, max_batches: int | None = None, keep_outputs: bool = False) -> Any:
        """Run all loaders.

        Args:
            epoch: For loaders that want to know.
            max_batches: Of each loader; None or -1 for as many as configured.
            keep_outputs: Return what the steps returned, a list a loader, instead of metrics.

        Returns:
            The epoch metrics of all loaders, or the outputs.
        """
        kind, hooks, logbook = self.kind, self._hooks, self._logbook
        modes = {module: module.training for module in self._module.modules()}
        self._module_hook("model_eval")
        before = logbook.turn_to(Page(), len(self.loaders))
        self.running = True
        try:
            with self._no_gradients():
                hooks.call(f"on_{kind}_start")
                hooks.call(f"on_{kind}_epoch_start")
                outputs = [
                    self._run_loader(index, loader, epoch, max_batches, keep_outputs)
                    for index, loader in enumerate(self.loaders)
                ]
                logbook.loader = 0
                hooks.call(f"on_{kind}_epoch_end")
                row = {} if kind == "predict" else logbook.collect_epoch()
                self._write_row(row, None)
                hooks.call(f"on_{kind}_end")
        finally:
            logbook.turn_to(*before)
            self._module_hook("model_train")
            for module, mode in modes.items():
                module.training = mode
            self.running = False
        return outputs if keep_outputs else row

    def _run_loader(
        self, index: int, loader: StageLoader, epoch: int, max_batches: int | None, keep: bool
    ) -> list[Any]:
        total = loader.total
        if max_batches is not None and max_batches >= 0:
            total = max_batches if total is None else min(total, max_batches)
        outputs: list[Any] = []
        if total == 0:
            return outputs
        logbook = self._logbook
        logbook.loader = index
        loader.batches.set_epoch(epoch)
        for position, batch in enumerate(loader.batches):
            output = self._run_batch(batch, position, index)
            if keep:
                outputs.append(output)
            if position + 1 == total:
                break
        loader.batches.end_epoch()
        return outputs

    def _run_batch(self, batch: Any, position: int, index: int) -> Any:
        logbook = self._logbook
        if self._transfer is not None:
            batch = self._transfer(batch, index)
        logbook.batch = batch
        places = (batch, position, index)
        for hook in self._before:
            hook(*places)
        logbook.hook = f"{self.kind}_step"
        output = self._step(*places[: self._arguments])
        logbook.hook = None
        for hook in self._after:
            hook(output, *places)
        row = logbook.collect_step()
        if row:
            self._write_row(row, self.steps)
        self.steps += 1
        return output

    def _module_hook(self, name: str) -> None:
        getattr(self._module, f"on_{self.kind}_{name}")()

    def _no_gradients(self) -> AbstractContextManager[Any]:
        return torch.inference_mode() if self._inference_mode else torch.no_grad()


def step_arguments(step: Callable[..., Any]) -> int:
    """How many of (batch, batch_idx, dataloader_idx) a step takes."""
    parameters = list(inspect.signature(step).parameters.values())
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 3
    return min(3, sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters))
