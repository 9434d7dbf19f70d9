"""What surrounds each call of the trainer: hooks before and after, and what happens when it fails."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from blixt.trainer.datamodule import DataModule
from blixt.trainer.hooks import HookPlan
from blixt.trainer.module import Module
from blixt.trainer.sources import not_one
from blixt.trainer.state import RunningStage, TrainerFn, TrainerStatus

if TYPE_CHECKING:
    from blixt.trainer.trainer import Trainer

_STAGES = {
    TrainerFn.FITTING: RunningStage.TRAINING,
    TrainerFn.VALIDATING: RunningStage.VALIDATING,
    TrainerFn.TESTING: RunningStage.TESTING,
    TrainerFn.PREDICTING: RunningStage.PREDICTING,
}


class Running:
    """Around a call: hooks before, teardown after, `on_exception` when it fails.

    Args:
        trainer: Whose call.
        fn: Which one.
        module: To work with.
        datamodule: Where loaders may come from.
    """

    def __init__(
        self, trainer: "Trainer", fn: TrainerFn, module: Module, datamodule: DataModule | None
    ) -> None:
        self._trainer = trainer
        self._fn = fn
        self._module, self._datamodule = module, datamodule
        self._hooks: HookPlan | None = None

    def __enter__(self) -> None:
        state = self._trainer.state
        state.fn, state.status, state.stage = self._fn, TrainerStatus.RUNNING, _STAGES[self._fn]
        try:
            self._begin()
        except BaseException as error:
            self._fail(error)
            raise

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            self._fail(error)
            return
        try:
            self._end()
        except BaseException as late:
            self._fail(late)
            raise

    def _begin(self) -> None:
        """Launch the processes and run every hook up to `configure_model`."""
        fn, module, datamodule, trainer = self._fn, self._module, self._datamodule, self._trainer
        if not isinstance(module, Module):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise not_one(f"{fn.value}(model)", module, Module)
        fabric = trainer.fabric
        fabric.launch()
        hooks = self._hooks = trainer.take_up(fn, module, datamodule)
        if trainer.has_profiler:
            rank = trainer.local_rank if trainer.world_size > 1 else None
            trainer.profiler.setup(stage=fn.value, local_rank=rank, log_dir=trainer.log_dir)
            trainer.profiler.attach(module)
        self._prepare_data(hooks)
        for logger in trainer.loggers:
            _ = getattr(logger, "experiment", None)  # made here, so that it has its folder in setup
        fabric.barrier()
        if datamodule is not None:
            hooks.of_data(datamodule, "setup")(fn.value)
        hooks.call("setup", fn.value)
        fabric.barrier()
        with trainer.init_module():
            hooks.of_data(module, "configure_model")()

    def _prepare_data(self, hooks: HookPlan) -> None:
        """Download or convert once a machine, or once at all, while the others wait."""
        fabric = self._trainer.fabric
        for owner in (self._datamodule, self._module):
            if owner is None:
                continue
            per_node = getattr(owner, "prepare_data_per_node", True)
            if fabric.local_rank == 0 if per_node else fabric.is_global_zero:
                hooks.of_data(owner, "prepare_data")()
        fabric.barrier()

    def _end(self) -> None:
        """Finish the loggers and run the teardown hooks."""
        trainer, fn, hooks = self._trainer, self._fn, self._trainer.hooks
        trainer.close_loaders()
        if fn is TrainerFn.FITTING:
            hooks.call("on_fit_end")
        if self._datamodule is not None:
            hooks.of_data(self._datamodule, "teardown")(fn.value)
        hooks.call("teardown", fn.value)
        interrupted = trainer.interrupted
        for logger in trainer.loggers if trainer.is_global_zero else []:
            if fn is TrainerFn.FITTING:
                logger.finalize("interrupted" if interrupted else "success")
            else:
                logger.save()
        if trainer.has_profiler:
            trainer.profiler.describe()
        if not interrupted:
            trainer.state.status = TrainerStatus.FINISHED
        trainer.state.stage = None

    def _fail(self, error: BaseException) -> None:
        """Tell everyone that the call ends with an error; Ctrl-C then ends the process with code 1."""
        trainer = self._trainer
        trainer.state.status = TrainerStatus.INTERRUPTED
        with _deaf_to_ctrl_c():
            if isinstance(error, KeyboardInterrupt):
                trainer.print("\nblixt: Ctrl-C, leaving the run ...")
            if self._hooks is not None:
                for hook in self._hooks.of_callbacks("on_exception"):
                    hook(error)
            if self._datamodule is not None:
                self._datamodule.on_exception(error)
            trainer.strategy.on_exception(error)
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            for logger in trainer.loggers if trainer.is_global_zero else []:
                logger.finalize(status)
            trainer.close_loaders()
            trainer.state.stage = None
        if isinstance(error, KeyboardInterrupt):
            raise SystemExit(1) from error


@contextmanager
def _deaf_to_ctrl_c() -> Generator[None]:
    """Inside, Ctrl-C is ignored, because people press it more than once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = cast("signal.Handlers", signal.signal(signal.SIGINT, signal.SIG_IGN))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
