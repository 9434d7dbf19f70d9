"""validate, test and predict, from the module to the loop."""

import os
from typing import Any

from blixt.fabric import ConfigError
from blixt.trainer import checkpoint as checkpoints
from blixt.trainer.complete import needed, refuse_former_hooks
from blixt.trainer.datamodule import DataModule
from blixt.trainer.evaluate import Kind
from blixt.trainer.fitting import FitStage
from blixt.trainer.hooks import overridden
from blixt.trainer.loader_stage import SHORT
from blixt.trainer.module import Module
from blixt.trainer.results import by_loader, table
from blixt.trainer.state import TrainerFn

KINDS: dict[TrainerFn, Kind] = {
    TrainerFn.VALIDATING: "validation",
    TrainerFn.TESTING: "test",
    TrainerFn.PREDICTING: "predict",
}


class EvaluateStage(FitStage):
    """What `validate`, `test` and `predict` do between their hooks."""

    def _find_checkpoint(
        self, wanted: str | os.PathLike[str] | None, fn: TrainerFn, model_given: bool = True
    ) -> str | None:
        found = checkpoints.find_checkpoint(
            wanted, fn.value, self.callbacks, self.default_root_dir, self.fabric, model_given=model_given
        )
        self.ckpt_path = None if found is None else str(found)
        return self.ckpt_path

    def _evaluate(
        self,
        fn: TrainerFn,
        module: Module,
        given: Any,
        path: str | None,
        weights_only: bool | None,
        keep: bool,
    ) -> tuple[Any, int]:
        """Run one evaluation; returns its metrics or outputs, and the number of its loaders."""
        kind = KINDS[fn]
        self._place(module)
        if path is not None:
            content = checkpoints.load(path, self.fabric, weights_only)
            checkpoints.restore_model(content, self._parts())
            checkpoints.restore_callbacks(content, self._parts(), tell=False)
        module.zero_grad()
        self.logbook.begin_run(module)
        self._given = {SHORT[kind]: given}
        evaluation = self._evaluation(kind)
        if evaluation is None:
            return ([] if keep else {}), 1
        result = evaluation.run(self.counters.epoch, keep_outputs=keep)
        return result, len(evaluation.loaders)

    def _rows(self, fn: TrainerFn, result: Any, count: int, verbose: bool) -> list[dict[str, float]]:
        rows = by_loader(result, count, self.logbook.loader_of)
        text = table(fn.value, rows) if verbose and self.is_global_zero else ""
        if text:
            print(text)
        return rows


def check_evaluation(fn: TrainerFn, module: Module, datamodule: DataModule | None, given: Any) -> None:
    """Say what is missing before anything is prepared."""
    kind = KINDS[fn]
    refuse_former_hooks(module)
    needed(fn.value, module, f"{kind}_step")
    name = f"{SHORT[kind]}_dataloader"
    in_data = datamodule is not None and overridden(datamodule, name, DataModule)
    if given is None and not in_data and not overridden(module, name, Module):
        reason = f"there is nothing to {fn.value}"
        raise ConfigError(f"{fn.value}(dataloaders)", None, reason, f"Give a loader, or write {name}")
    step = f"{kind}_step"
    by_forward = kind == "predict" and overridden(module, "forward", Module)
    if not by_forward and not overridden(module, step, Module):
        reason = f"it says nothing about what to do with a batch to {fn.value}"
        raise ConfigError(
            f"{fn.value}(model)",
            type(module).__name__,
            reason,
            f"Write {step}{' or forward' if kind == 'predict' else ''}",
        )
