"""The loaders of a trainer's stages, and the evaluations that run them."""

from collections.abc import Iterator, Mapping
from typing import Any

from blixt.fabric import ConfigError, FabricError, isolate_rng, to_device
from blixt.trainer import loaders
from blixt.trainer.combined_steps import takes_iterator
from blixt.trainer.evaluate import Evaluation, Kind
from blixt.trainer.fit import validates_in
from blixt.trainer.hooks import HookPlan, profiled, watched
from blixt.trainer.loaders import StageLoader
from blixt.trainer.module import Module
from blixt.trainer.state import RunningStage
from blixt.trainer.views import TrainerViews

SHORT: dict[Kind, str] = {"validation": "val", "test": "test", "predict": "predict"}


class LoaderStage(TrainerViews):
    """Makes loaders when they are first needed, again when they are due, and rows for the loggers."""

    _row: dict[str, float]
    _val_loaders_epoch: int = 0

    @property
    def hooks(self) -> HookPlan:
        """Which hooks are really there."""
        if self._hooks is None:
            raise FabricError("The trainer has not run anything yet. Call fit, validate, test or predict.")
        return self._hooks

    # --- for others -------------------------------------------------------------------------------

    def given_loaders(self, stage: str) -> Any:
        """What was passed to the running method as loaders of "train", "val", "test" or "predict"."""
        return self._given.get(stage)

    def train_batches(self) -> Iterator[Any]:
        """This rank's batches of one epoch of training data, on its device, as a step would get them."""
        if self._train is None:
            raise FabricError("The training loader is made when fit begins.")
        transfer = self._transfer(self.lightning_module)
        for index, batch in enumerate(self._train.batches):
            if self._train.total is not None and index >= self._train.total:
                break
            yield batch if transfer is None else transfer(batch, 0)

    def renew_loaders(self) -> None:
        """Make the loaders of the running stage again, because what they are made of has changed."""
        if self._train is not None:
            self._train.close()
            self._train = self._new_train_loader()
            if self._run is not None:
                self._run.loader = self._train
        for kind, evaluation in list(self._evaluations.items()):
            for loader in evaluation.loaders:
                loader.close()
            evaluation.loaders = self._evaluation_loaders(kind, fitting=self.stage == "fit") or []

    def close_loaders(self) -> None:
        """End the workers of every loader of the stage, and keep no batch of theirs."""
        self.logbook.batch = None
        evaluated = [loader for each in self._evaluations.values() for loader in each.loaders]
        for loader in [*evaluated, *([self._train] if self._train is not None else [])]:
            loader.close()

    # --- loaders ----------------------------------------------------------------------------------

    def _new_train_loader(self) -> StageLoader:
        module = self.lightning_module
        found = loaders.find_loaders("train", self._given.get("train"), module, self.datamodule)
        if found is None:
            reason = "there is nothing to train on"
            fix = "Give a loader, or write train_dataloader"
            raise ConfigError("fit(train_dataloaders)", None, reason, fix)
        self.counters.loaders_epoch = self.counters.epoch
        return loaders.prepare_train(
            found,
            self.fabric,
            self.config,
            self._transfer(module),
            allow_empty=self._allows_empty(),
            drawn=takes_iterator(module.training_step),
        )

    def _loader_of_epoch(self) -> StageLoader:
        every, counters = self.config.reload_dataloaders_every_n_epochs, self.counters
        if self._train is None or loaders.reload_due(counters.epoch, counters.loaders_epoch, every):
            if self._train is not None:
                self._train.close()
            self._train = self._new_train_loader()
        return self._train

    def _validation(self) -> Evaluation | None:
        """The validation of this fit; its loaders are made when it first runs, and when they are due."""
        every, epoch = self.config.reload_dataloaders_every_n_epochs, self.counters.epoch
        kept = self._evaluations.get("validation")
        if kept is not None and not loaders.reload_due(epoch, self._val_loaders_epoch, every):
            return kept
        # Loaders that only the sanity check wanted are not those of a later epoch.
        wanted = self.state.stage is not RunningStage.SANITY_CHECKING or validates_in(self.config, epoch)
        self._val_loaders_epoch = epoch if wanted else -(10**9)
        made = self._evaluation("validation", fitting=True)
        if made is not None and kept is not None and len(kept.steps) == len(made.steps):
            made.steps = kept.steps
        return made

    def _evaluation(self, kind: Kind, *, fitting: bool = False) -> Evaluation | None:
        module = self.lightning_module
        ready = self._evaluation_loaders(kind, fitting)
        if ready is None:
            return None
        evaluation = self._evaluations[kind] = Evaluation(
            kind,
            module,
            self.fabric,
            self.hooks,
            self.logbook,
            ready,
            self._transfer(module),
            self.config.inference_mode and not fitting,
            self.write_row if self.loggers else None,
            lambda function, label: profiled(function, self._profiler, label),
            self.state,
            lambda batches: watched(batches, self._profiler, f"[_EvaluationLoop].{SHORT[kind]}_next"),
        )
        evaluation.keeps_indices = self.keeps_indices and kind == "predict"
        return evaluation

    def _evaluation_loaders(self, kind: Kind, fitting: bool) -> list[StageLoader] | None:
        stage, module = SHORT[kind], self.lightning_module
        if getattr(self.config, f"limit_{stage}_batches") == 0:
            return None
        if getattr(module, f"{kind}_step") is None:  # some set it to None on an instance, to go without
            return None
        found = loaders.find_loaders(stage, self._given.get(stage), module, self.datamodule)
        if found is None:
            return None
        self._found[kind] = found
        transfer, empty = self._transfer(module), self._allows_empty()
        with isolate_rng(self.fabric.device):  # training draws the same numbers with and without validation
            return loaders.prepare_evaluation(
                found, stage, self.fabric, self.config, transfer, fitting=fitting, allow_empty=empty
            )

    def _allows_empty(self) -> bool:
        name = "allow_zero_length_dataloader_with_multiple_devices"
        return any(getattr(owner, name, False) for owner in (self._module, self.datamodule))

    def _transfer(self, module: Module) -> loaders.Transfer | None:
        own = loaders.transfer_hooks(module, self.datamodule, self.fabric)
        precision, device = self.fabric.precision, self.fabric.device
        if not precision.converts_input:
            return own
        if own is None:
            return lambda batch, index: to_device(precision.convert_input(batch), device)
        return lambda batch, index: own(precision.convert_input(batch), index)

    # --- rows for loggers -------------------------------------------------------------------------

    def add_to_row(self, numbers: Mapping[str, float]) -> None:
        """Let `numbers` travel with the next row for the loggers."""
        self._row.update(numbers)

    def write_row(self, row: dict[str, Any], step: int | None = None, epoch: bool = True) -> None:
        """Send a row to the loggers.

        Args:
            row: Its numbers; one called "step" is the step.
            step: Under which number; None for the newest optimizer step, counted from 0.
            epoch: Add the number of the epoch.
        """
        if self.state.stage is RunningStage.SANITY_CHECKING or not (row or self._row):
            return
        full = {**self._row, **row}
        self._row.clear()
        own = full.pop("step", None)
        number = self.logger_step if step is None else step
        if epoch and own is None:
            full.setdefault("epoch", self.counters.epoch)
        if self.is_global_zero:
            for logger in self.loggers:
                logger.log_metrics(metrics=full, step=number if own is None else int(own))
