"""What surrounds a stage, and how its results are told."""

from typing import TYPE_CHECKING

from blixt.fabric import ConfigError
from blixt.trainer.datamodule import DataModule
from blixt.trainer.hooks import HookPlan
from blixt.trainer.module import Module
from blixt.trainer.views import Stage

if TYPE_CHECKING:
    from blixt.trainer.trainer import Trainer


class Running:
    """Around a stage: hooks before, teardown after, `on_exception` when it fails."""

    def __init__(
        self, trainer: "Trainer", stage: Stage, module: Module, datamodule: DataModule | None
    ) -> None:
        self._trainer = trainer
        self._stage: Stage = stage
        self._module, self._datamodule = module, datamodule
        self._hooks: HookPlan | None = None

    def __enter__(self) -> None:
        try:
            self._begin()
        except Exception as error:
            self._fail(error)
            raise

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            self._end()
        else:
            self._fail(error)

    def _begin(self) -> None:
        """Launch the processes and run every hook up to `configure_model`."""
        stage, module, datamodule = self._stage, self._module, self._datamodule
        if not isinstance(module, Module):  # pyright: ignore[reportUnnecessaryIsInstance]
            reason = "it is not a blixt.trainer.Module"
            raise ConfigError(
                f"{stage}(model)", type(module).__name__, reason, "Derive your model from Module"
            )
        fabric = self._trainer.fabric
        fabric.launch()
        hooks = self._hooks = self._trainer.take_up(stage, module, datamodule)
        with fabric.rank_zero_first(local=True):
            if fabric.local_rank == 0:
                if datamodule is not None:
                    datamodule.prepare_data()
                module.prepare_data()
        if datamodule is not None:
            datamodule.setup(stage)
        hooks.call("setup", stage)
        module.configure_model()

    def _end(self) -> None:
        """Finish the loggers and run the teardown hooks."""
        trainer, stage = self._trainer, self._stage
        for logger in trainer.loggers if trainer.is_global_zero else []:
            if stage == "fit":
                logger.finalize("interrupted" if trainer.interrupted else "success")
            else:
                logger.save()
        if self._datamodule is not None:
            self._datamodule.teardown(stage)
        trainer.hooks.call("teardown", stage)
        trainer.stage = None

    def _fail(self, error: BaseException) -> None:
        """Tell everyone that the run ends with an error."""
        trainer = self._trainer
        trainer.sanity_checking = False
        if self._hooks is not None:
            for hook in self._hooks.of_callbacks("on_exception"):
                hook(error)
        if self._datamodule is not None:
            self._datamodule.on_exception(error)
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        for logger in trainer.loggers if trainer.is_global_zero else []:
            logger.finalize(status)
        trainer.stage = None


def by_loader(row: dict[str, float], count: int) -> list[dict[str, float]]:
    """The metrics of each loader; those of no loader in particular belong to all."""
    if count == 1:
        return [row]
    mark = "/dataloader_idx_"
    return [
        {name: value for name, value in row.items() if mark not in name or name.endswith(f"{mark}{index}")}
        for index in range(count)
    ]


def sentence(row: dict[str, float]) -> str:
    """A row for people."""
    return "  ".join(f"{name}={value:.6g}" for name, value in row.items())
