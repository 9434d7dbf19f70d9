"""The largest batch size that fits into memory."""

import gc
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from blixt.fabric import ConfigError, FabricError
from blixt.trainer.tuner_attributes import get_number, set_number
from blixt.trainer.tuner_trial import branch, on_trial

if TYPE_CHECKING:
    from blixt.trainer.datamodule import DataModule
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer

Stage = Literal["fit", "validate", "test", "predict"]
_MEMORY_SENTENCES = (
    "out of memory",
    "can't allocate memory",
    "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_memory_error(error: BaseException) -> bool:
    """Whether an error says that memory, of a device or of the machine, is exhausted."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sentence in str(error) for sentence in _MEMORY_SENTENCES)


def power_search(
    fits: Callable[[int], bool],
    start: int,
    max_trials: int,
    highest: int,
    enough: Callable[[], float] = lambda: math.inf,
) -> int:
    """Double while it fits.

    Args:
        fits: Tries a size.
        start: First size; halved while it does not fit.
        max_trials: Sizes that are tried at most.
        highest: No larger size is tried.
        enough: Says, after the first trial, from which size on larger ones make no difference.

    Returns:
        The largest size that was tried and fitted; 0 if none did.

    Example:
        >>> power_search(lambda size: size <= 100, 2, 25, 8192)
        64
    """
    best, size = 0, min(start, highest)
    for _ in range(max_trials):
        if fits(size):
            best = size
            if size >= min(enough(), highest):
                break
            size = min(size * 2, highest)
        elif best or size == 1:
            break
        else:
            size = size // 2
    return best


def binary_search(
    fits: Callable[[int], bool],
    start: int,
    max_trials: int,
    highest: int,
    enough: Callable[[], float] = lambda: math.inf,
) -> int:
    """Double while it fits, then halve the interval between what fits and what does not.

    Arguments and result are those of `power_search`.

    Example:
        >>> binary_search(lambda size: size <= 100, 2, 25, 8192)
        100
    """
    low, high, size = 0, highest + 1, min(start, highest)
    for _ in range(max_trials):
        if fits(size):
            low = size
            if low >= min(enough(), highest):
                break
        else:
            high = size
        if high - low <= 1:
            break
        size = (low + high) // 2 if high <= highest else min(low * 2, highest)
    return low


def find_batch_size(
    trainer: "Trainer",
    module: "Module",
    datamodule: "DataModule | None",
    stage: Stage,
    mode: str,
    steps_per_trial: int,
    init_val: int,
    max_trials: int,
    batch_arg_name: str,
    margin: float,
    max_val: int,
) -> int:
    """Search, and set `batch_arg_name` to what was found; see `Tuner.scale_batch_size`."""
    objects = [module, datamodule if datamodule is not None else trainer.datamodule]
    check(mode, margin, init_val, max_val, max_trials, steps_per_trial)
    if get_number(objects, batch_arg_name) is None:
        reason = "neither the module nor the data module, nor their hparams, have it"
        raise ConfigError(
            "scale_batch_size(batch_arg_name)", batch_arg_name, reason, "Name what loaders read"
        )
    if trainer.world_size > 1:
        reason = "a rank without memory would leave the others waiting"
        raise ConfigError("Trainer(devices)", trainer.world_size, reason, "Search with devices=1")
    before = get_number(objects, batch_arg_name)
    trial = _Trial(trainer, module, datamodule, stage, steps_per_trial)

    def fits(size: int) -> bool:
        set_number(objects, batch_arg_name, size)
        return trial.fits()

    search = power_search if mode == "power" else binary_search
    try:
        found = search(fits, init_val, max_trials, max_val, lambda: trial.rows)
    except BaseException:
        set_number(objects, batch_arg_name, before)
        raise
    if not found:
        set_number(objects, batch_arg_name, before)
        raise FabricError("Not even a batch size of 1 fits into memory. Use a smaller model or sample.")
    if mode == "binsearch":
        found = max(1, int(found * (1 - margin)))
    set_number(objects, batch_arg_name, found)
    trainer.print(f"Batch size {found} fits.")
    return found


def check(mode: str, margin: float, init_val: int, max_val: int, max_trials: int, steps: int) -> None:
    """Refuse arguments that cannot work."""
    if mode not in ("power", "binsearch"):
        raise ConfigError("scale_batch_size(mode)", mode, "it is unknown", "Use 'power' or 'binsearch'")
    if not 0.0 <= margin < 1.0:
        raise ConfigError("scale_batch_size(margin)", margin, "it is a part of the size", "Use e.g. 0.05")
    counts = {"init_val": init_val, "max_val": max_val, "max_trials": max_trials, "steps_per_trial": steps}
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"scale_batch_size({name})", value, "it counts from 1", "Use 1 or more")


class _Trial:
    """A few steps with the batch size that is set.

    Attributes:
        rows: Of the dataset; infinite while nobody knows.
    """

    def __init__(
        self,
        trainer: "Trainer",
        module: "Module",
        datamodule: "DataModule | None",
        stage: Stage,
        steps: int,
    ) -> None:
        self._trainer, self._module, self._datamodule = trainer, module, datamodule
        self._stage: Stage = stage
        self._limits: dict[str, Any] = {"num_sanity_val_steps": 0, "log_every_n_steps": 0}
        if stage == "fit":
            self._limits |= {"max_steps": steps, "max_epochs": -1, "min_epochs": 0, "min_steps": 0}
            self._limits |= {"limit_val_batches": steps}
        else:
            short = {"validate": "val"}.get(stage, stage)
            self._limits[f"limit_{short}_batches"] = steps
        self.rows: float = math.inf

    def fits(self) -> bool:
        """Whether the steps run without exhausting memory."""
        twin = branch(self._trainer, [], **self._limits)
        try:
            with on_trial(self._trainer, self._module, self._datamodule):
                self._run(twin)
        except (RuntimeError, MemoryError) as error:
            if not is_memory_error(error):
                raise
            fit = False
        else:
            fit = True
            self.rows = _rows(twin, self._stage)
        _free_memory()
        return fit

    def _run(self, twin: "Trainer") -> None:
        if self._stage == "fit":
            twin.fit(self._module, datamodule=self._datamodule)
        elif self._stage == "predict":
            twin.predict(self._module, datamodule=self._datamodule, return_predictions=False)
        else:
            verb = twin.validate if self._stage == "validate" else twin.test
            verb(self._module, datamodule=self._datamodule, verbose=False)


def _rows(twin: "Trainer", stage: Stage) -> float:
    name = {"fit": "train_dataloader", "validate": "val_dataloaders"}.get(stage, f"{stage}_dataloaders")
    loaders: Any = getattr(twin, name)
    several = cast("Iterable[Any]", loaders if isinstance(loaders, (list, tuple)) else [loaders])
    try:
        return max(len(loader.dataset) for loader in several)
    except (AttributeError, TypeError, ValueError):
        return math.inf


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
