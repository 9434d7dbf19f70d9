"""The loop you do not want to write: epochs, validation, logging, checkpoints, exact resume."""

import os
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, ClassVar, Literal, Never

from blixt.fabric import Fabric, Logger
from blixt.fabric.accelerators import Accelerator
from blixt.fabric.errors import MissingMethodError, WrongTypeError
from blixt.fabric.plan import Plugin
from blixt.fabric.precision import Precision
from blixt.fabric.strategies import Strategy
from blixt.trainer.callback import Callback
from blixt.trainer.compiling import Compile, check_compile
from blixt.trainer.config import (
    Limit,
    MaxTime,
    TrainerConfig,
    apply_defaults,
    defaults_from_environment,
    make_config,
)
from blixt.trainer.datamodule import DataModule
from blixt.trainer.defaults import make_callbacks, make_loggers
from blixt.trainer.evaluating import EvaluateStage, check_evaluation
from blixt.trainer.former import refuse_unknown
from blixt.trainer.interval import Interval
from blixt.trainer.logbook import Logbook
from blixt.trainer.loops import EvaluationLoop, FitLoop, PredictionLoop
from blixt.trainer.module import Module
from blixt.trainer.numerics import set_numerics
from blixt.trainer.processes import run_elsewhere, runs_elsewhere
from blixt.trainer.profilers import Profiler, resolve_profiler
from blixt.trainer.progress import Counters
from blixt.trainer.sources import one_source, sort_data, with_sync_batchnorm
from blixt.trainer.stage import Running
from blixt.trainer.state import TrainerFn, TrainerState

PathLike = str | os.PathLike[str]


class Trainer(EvaluateStage):
    """Runs a `Module` on a `Fabric`.

    All arguments are by keyword, and each can also be given by the environment, as `PL_TRAINER_<NAME>`.

    Args:
        accelerator: "auto", "cpu", "cuda", "gpu", "mps", or an `Accelerator`.
        strategy: How processes share the model: "auto", "ddp", "fsdp", ..., or a `Strategy`.
        devices: Processes on this machine (a number, -1 or "auto"), or which devices ([0, 2], "0,2").
        num_nodes: Machines.
        precision: "32-true" (default), "bf16-mixed", "16-mixed", "bf16-true", "64-true", ...
        logger: True for TensorBoard's files, or CSV where TensorBoard is not installed; False for none;
            or loggers. A job of blixt's cloud logs into its Experiment as well.
        callbacks: What else happens at the hooks.
        fast_dev_run: Run this many batches (True: 1) of everything; loggers and checkpoints write
            nothing.
        max_epochs: -1 for no limit; default 1000, or no limit when `max_steps` or `max_time` is given.
        min_epochs: Train at least so long, whatever wants to stop.
        max_steps: Optimizer steps; -1 for no limit.
        min_steps: Train at least so long.
        max_time: "DD:HH:MM:SS", "90min", a timedelta, or a dict for one; adds a `Timer`.
        limit_train_batches: Of an epoch: a number, or a part (float); default all.
        limit_val_batches: Of each validation loader.
        limit_test_batches: Of each test loader.
        limit_predict_batches: Of each predict loader.
        overfit_batches: Train and validate on so much of the data, without shuffling.
        val_check_interval: Validate after so many batches, a part of an epoch (float), or an `Interval`:
            "0.5ep", "500ba" (across epochs), "10min", a timedelta, a dict for one. Default 1.0.
        check_val_every_n_epoch: None lets `val_check_interval` count batches across epochs.
        num_sanity_val_steps: Validation batches before training, to fail early; default 2, -1 for all.
        log_every_n_steps: Optimizer steps between rows for the loggers; default 50, 0 for none.
        enable_checkpointing: Add a `ModelCheckpoint` if there is none (default).
        enable_progress_bar: Add a progress bar if there is none (default).
        enable_model_summary: Print what the module is made of (default).
        accumulate_grad_batches: Batches whose gradients make one optimizer step.
        gradient_clip_val: Bound on gradients.
        gradient_clip_algorithm: "norm" of all of them (default), or each "value".
        deterministic: Only use deterministic algorithms; "warn" where there are none.
        benchmark: Let cuDNN try its algorithms and keep the fastest; default as torch has it.
        inference_mode: Evaluate in torch's inference mode rather than without gradients only.
        use_distributed_sampler: Divide map-style loaders among the processes.
        profiler: "simple", "advanced", "pytorch", or a `Profiler`.
        detect_anomaly: Find the operation that made a NaN; slow.
        barebones: Turn off everything that costs time, `log` included, to see what the loop costs.
        plugins: A `Precision`, `ClusterEnvironment`, `CheckpointIO` or `LayerSync`, or a list.
        sync_batchnorm: Batch norm over the batches of all processes.
        reload_dataloaders_every_n_epochs: Make loaders anew every so many epochs; 0 for never.
        default_root_dir: Where logs and checkpoints go, a path or URL; default the working directory.
        enable_autolog_hparams: Send the module's hyperparameters to the loggers.
        model_registry: Of Lightning's cloud; only None.
        compile: True lets torch.compile work on the model; "blocks" on its repeated layers; a dict holds
            torch.compile's options. Loop, hooks and `log` are never compiled.

    Raises:
        ConfigError: Naming the argument, its value, the reason and the fix.

    Example:
        >>> trainer = Trainer(accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False)
        >>> trainer.max_epochs
        2
    """

    DEFAULT_LOGGER_NAME: ClassVar[str] = "logs"
    FABRIC: ClassVar[type[Fabric]] = Fabric
    """The folder below `default_root_dir` that the default logger writes to."""

    @defaults_from_environment
    def __init__(
        self,
        *,
        accelerator: str | Accelerator = "auto",
        strategy: str | Strategy = "auto",
        devices: list[int] | str | int = "auto",
        num_nodes: int = 1,
        precision: str | int | Precision | None = None,
        logger: Logger | Iterable[Logger] | bool | None = None,
        callbacks: Callback | list[Callback] | None = None,
        fast_dev_run: bool | int = False,
        max_epochs: int | None = None,
        min_epochs: int | None = None,
        max_steps: int = -1,
        min_steps: int | None = None,
        max_time: MaxTime | None = None,
        limit_train_batches: Limit | None = None,
        limit_val_batches: Limit | None = None,
        limit_test_batches: Limit | None = None,
        limit_predict_batches: Limit | None = None,
        overfit_batches: Limit = 0.0,
        val_check_interval: Limit | str | timedelta | dict[str, float] | Interval | None = None,
        check_val_every_n_epoch: int | None = 1,
        num_sanity_val_steps: int | None = None,
        log_every_n_steps: int | None = None,
        enable_checkpointing: bool | None = None,
        enable_progress_bar: bool | None = None,
        enable_model_summary: bool | None = None,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: Literal["norm", "value"] | None = None,
        deterministic: bool | Literal["warn"] | None = None,
        benchmark: bool | None = None,
        inference_mode: bool = True,
        use_distributed_sampler: bool = True,
        profiler: str | Profiler | None = None,
        detect_anomaly: bool = False,
        barebones: bool = False,
        plugins: Plugin | list[Plugin] | None = None,
        sync_batchnorm: bool = False,
        reload_dataloaders_every_n_epochs: int = 0,
        default_root_dir: PathLike | None = None,
        enable_autolog_hparams: bool = True,
        model_registry: None = None,
        compile: Compile = None,
        **unknown: Never,
    ) -> None:
        arguments = locals()
        refuse_unknown(unknown, arguments.keys() - {"self", "unknown"}, model_registry)
        given = apply_defaults(arguments)
        names = {*TrainerConfig.__dataclass_fields__, "max_time"} - {"max_time_s", "val_check_s"}
        self.config: TrainerConfig = make_config({name: given[name] for name in names})
        set_numerics(deterministic, benchmark)
        self.fabric = self.FABRIC(
            accelerator=accelerator,
            strategy=strategy,
            devices=devices,
            num_nodes=num_nodes,
            precision=precision,
            plugins=with_sync_batchnorm(plugins) if sync_batchnorm else plugins,
        )
        self.default_root_dir = os.fspath(default_root_dir) if default_root_dir is not None else os.getcwd()
        wanted = False if barebones else given["logger"]
        quiet = bool(self.config.fast_dev_run)
        self.loggers = make_loggers(
            wanted, self.default_root_dir, self.fabric, quiet, self.DEFAULT_LOGGER_NAME
        )
        self.callbacks: list[Callback] = make_callbacks(
            callbacks,
            checkpointing=given["enable_checkpointing"],
            bar=given["enable_progress_bar"],
            summary=given["enable_model_summary"],
            max_time=max_time,
        )
        self._begin_state(profiler, check_compile(compile))

    def _begin_state(self, profiler: Any, compile_: Compile) -> None:
        self._profiler = resolve_profiler(profiler)
        self._compile = compile_
        self.state = TrainerState()
        self.counters = Counters()
        self.logbook = Logbook(self.fabric)
        self.lr_scheduler_configs = []
        self.optimizer_handles = []
        self.should_stop = self.received_sigterm = self.keeps_indices = False
        self.predictions: list[Any] = []
        self.datamodule: DataModule | None = None
        self.ckpt_path: str | None = None
        self._module = self._model = self._hooks = self._train = self._run = None
        self._given, self._found = {}, {}
        self._may_make_train, self._adopts_callbacks = False, True
        self._evaluations = {}
        self._validates = self._left_epoch = False
        self._row = {}

    def start_anew(self, callbacks: list[Callback], config: TrainerConfig) -> None:
        """Make this copy of a trainer one that has run nothing; for those who try something on the side.

        Args:
            callbacks: Its only ones; those of modules are not added.
            config: Its arguments.
        """
        self.config, self.callbacks, self.loggers = config, callbacks, []
        self._begin_state(None, None)
        self._adopts_callbacks = False

    def __getstate__(self) -> dict[str, Any]:
        """Settings, counters and results: what runs belongs to its process."""
        return {**vars(self), "_hooks": None, "_run": None, "_train": None, "_evaluations": {}}

    # --- the verbs --------------------------------------------------------------------------------

    def fit(
        self,
        model: Module,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: DataModule | None = None,
        ckpt_path: PathLike | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Train.

        Another fit of the same trainer goes on counting epochs and steps: raise `fit_loop.max_epochs`.

        Args:
            model: What to train.
            train_dataloaders: The loader or loaders, or a data module; default the module's or data module's.
            val_dataloaders: One or several.
            datamodule: Where loaders come from.
            ckpt_path: Go on from this checkpoint, exactly: a path or URL, "last", "best", "hpc", or "auto"
                (the newest below `default_root_dir`, or from the beginning when there is none).
            weights_only: False also reads checkpoints that hold more than tensors and plain values: those
                run code, so only files you trust.

        Raises:
            ConfigError: When something is missing or does not fit.
            SystemExit: With code 1 after Ctrl-C, with 143 when a signal asked for the end.
        """
        train_dataloaders, datamodule = sort_data("fit(train_dataloaders)", train_dataloaders, datamodule)
        one_source("fit(val_dataloaders)", val_dataloaders, datamodule)
        if runs_elsewhere(self):
            given = {"train_dataloaders": train_dataloaders, "val_dataloaders": val_dataloaders}
            given |= {"datamodule": datamodule, "ckpt_path": ckpt_path, "weights_only": weights_only}
            run_elsewhere(self, "fit", model, given)
            return
        with Running(self, TrainerFn.FITTING, model, datamodule):
            path = self._find_checkpoint(ckpt_path, TrainerFn.FITTING)
            self._fit(model, train_dataloaders, val_dataloaders, path, weights_only)
        if self.interrupted:
            raise SystemExit(143)

    def validate(
        self,
        model: Module | None = None,
        dataloaders: Any = None,
        ckpt_path: PathLike | None = None,
        verbose: bool = True,
        datamodule: DataModule | None = None,
        weights_only: bool | None = None,
    ) -> list[dict[str, float]]:
        """Run the validation loaders; returns one dict of metrics a loader.

        Args:
            model: Default the one used last; then the best checkpoint is loaded, where there is one.
            dataloaders: One or several, or a data module.
            ckpt_path: Load these weights first, see `fit`.
            verbose: Print the metrics.
            datamodule: Where loaders come from.
            weights_only: See `fit`.
        """
        fn = TrainerFn.VALIDATING
        result, count = self._run_evaluation(fn, model, dataloaders, ckpt_path, datamodule, weights_only)
        return self._rows(fn, result, count, verbose)

    def test(
        self,
        model: Module | None = None,
        dataloaders: Any = None,
        ckpt_path: PathLike | None = None,
        verbose: bool = True,
        datamodule: DataModule | None = None,
        weights_only: bool | None = None,
    ) -> list[dict[str, float]]:
        """Run the test loaders; returns one dict of metrics a loader. Arguments are those of `validate`."""
        fn = TrainerFn.TESTING
        result, count = self._run_evaluation(fn, model, dataloaders, ckpt_path, datamodule, weights_only)
        return self._rows(fn, result, count, verbose)

    def predict(
        self,
        model: Module | None = None,
        dataloaders: Any = None,
        datamodule: DataModule | None = None,
        return_predictions: bool | None = None,
        ckpt_path: PathLike | None = None,
        weights_only: bool | None = None,
    ) -> list[Any] | None:
        """Run `predict_step`; returns its outputs, a list a loader if there are several.

        Args:
            model: Default the one used last.
            dataloaders: One or several, or a data module.
            datamodule: Where loaders come from.
            return_predictions: False keeps none of them, when a callback writes them.
            ckpt_path: Load these weights first, see `fit`.
            weights_only: See `fit`.
        """
        fn, keep = TrainerFn.PREDICTING, return_predictions is not False
        self.predictions = []
        result, _ = self._run_evaluation(fn, model, dataloaders, ckpt_path, datamodule, weights_only, keep)
        if not keep:
            return None
        self.predictions = result[0] if len(result) == 1 else result
        return self.predictions

    def save_checkpoint(
        self, filepath: PathLike, weights_only: bool | None = None, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; call it on all ranks.

        Args:
            filepath: A path or URL; it appears whole or not at all.
            weights_only: Leave out what only resuming needs.
            storage_options: For a `CheckpointIO` that takes some.
        """
        if self._module is None:
            raise MissingMethodError(
                "save_checkpoint(filepath)",
                os.fspath(filepath),
                "the trainer has no model yet",
                "Call it during or after fit, validate, test or predict",
            )
        self._save(os.fspath(filepath), bool(weights_only), storage_options)

    # --- the loops, as others know them -----------------------------------------------------------

    @property
    def fit_loop(self) -> FitLoop:
        """Epochs and batches of the fit."""
        return FitLoop(self)

    @property
    def validate_loop(self) -> EvaluationLoop:
        """Batches of `validate`."""
        return EvaluationLoop(self, "validation")

    @property
    def test_loop(self) -> EvaluationLoop:
        """Batches of `test`."""
        return EvaluationLoop(self, "test")

    @property
    def predict_loop(self) -> PredictionLoop:
        """Batches of `predict`."""
        return PredictionLoop(self, "predict")

    def _run_evaluation(
        self,
        fn: TrainerFn,
        model: Module | None,
        given: Any,
        ckpt_path: PathLike | None,
        datamodule: DataModule | None,
        weights_only: bool | None,
        keep: bool = False,
    ) -> tuple[Any, int]:
        given, datamodule = sort_data(f"{fn.value}(dataloaders)", given, datamodule)
        module = model if model is not None else self._module
        if module is None:
            reason = "the trainer has no module yet"
            raise WrongTypeError(f"{fn.value}(model)", None, reason, "Give one, or fit first")
        if model is None and given is None and datamodule is None:
            datamodule = self.datamodule
        if isinstance(module, Module):  # pyright: ignore[reportUnnecessaryIsInstance] - Running says it
            check_evaluation(fn, module, datamodule, given)
        if runs_elsewhere(self):
            arguments = (given, ckpt_path, datamodule, weights_only, keep)
            return run_elsewhere(self, "evaluate_here", module, {"fn": fn, "arguments": arguments})
        path = self._find_checkpoint(ckpt_path, fn, model is not None)
        with Running(self, fn, module, datamodule):
            return self._evaluate(fn, module, given, path, weights_only, keep)

    def evaluate_here(self, module: Module, fn: TrainerFn, arguments: tuple[Any, ...]) -> tuple[Any, int]:
        """What a process that was made for an evaluation does."""
        given, ckpt_path, datamodule, weights_only, keep = arguments
        return self._run_evaluation(fn, module, given, ckpt_path, datamodule, weights_only, keep)
