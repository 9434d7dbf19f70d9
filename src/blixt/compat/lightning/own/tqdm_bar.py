"""Lightning's progress bar of tqdm, for programs that shape its bars themselves, or look at them.

A trainer's own bar stays blixt's, which needs no package. This one is made where a program names it.
"""

import functools
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from blixt import trainer as ours
from blixt.trainer import ProgressBar

__all__ = ["TQDMProgressBar"]

if TYPE_CHECKING:
    from blixt.trainer import Module, Trainer

_REDRAW_S = 0.1
_COLAB_RATE = 20
"""Where a drawing travels to a browser far away."""


@functools.cache
def _tqdm() -> Any:
    """The class whose bars are drawn, with numbers as wide as their neighbours."""
    from tqdm.auto import tqdm

    class Tqdm(tqdm):  # type: ignore[misc]
        @staticmethod
        def format_num(n: Any) -> str:
            return padded(n, tqdm.format_num)

    return Tqdm


def padded(number: Any, form: Callable[[float], str] = "{:.3g}".format) -> str:
    """A number that keeps its width from step to step.

    Example:
        >>> padded(0.1), padded("1.0"), padded(7), padded("name")
        ('0.100', '1.000', '7', 'name')
    """
    whole_number = isinstance(number, int) or (isinstance(number, str) and "." not in number)
    try:
        value = float(number)
    except (TypeError, ValueError):
        return str(number)
    text = str(number) if whole_number else form(value)
    if whole_number or "e" in text or text.strip("-") in ("inf", "nan"):
        return text
    whole, _, part = text.partition(".")
    return f"{whole}.{part.ljust(max(1, 4 - len(whole.strip('-'))), '0')}"


def _bar(name: str) -> property:
    def read(self: "TQDMProgressBar") -> Any:
        if name not in self.bars:
            raise TypeError(f"{type(self).__name__}.{name}_progress_bar is made when that stage begins.")
        return self.bars[name]

    def write(self: "TQDMProgressBar", bar: Any) -> None:
        self.bars[name] = bar

    return property(read, write, doc=f"tqdm's bar of the stage {name!r}.")


class TQDMProgressBar(ProgressBar):
    """Bars of tqdm: override `init_train_tqdm` and its kin to shape them, `get_metrics` for what they show.

    They move every `refresh_rate` batches and are drawn every 0.1 s at most, because a drawing waits for the
    device. Without the package tqdm this is blixt's own bar.

    Args:
        refresh_rate: Batches between two moves; 0 for no bar.
        process_position: Lines to leave free above, for bars of other processes in one terminal.
        leave: Keep the bar of each epoch.
    """

    BAR_FORMAT: ClassVar[str] = (
        "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
    )

    def __new__(cls, *args: Any, **options: Any) -> Any:
        """blixt's own where tqdm is not installed and nothing is overridden."""
        if cls is TQDMProgressBar and importlib.util.find_spec("tqdm") is None:
            return ours.TQDMProgressBar(*args, **options)
        return object.__new__(cls)

    def __init__(self, refresh_rate: int = 1, process_position: int = 0, leave: bool = False) -> None:
        super().__init__()
        if refresh_rate == 1 and "COLAB_GPU" in os.environ:
            refresh_rate = _COLAB_RATE
        self._rate = max(refresh_rate, int(os.environ.get("TQDM_MINITERS", 0)))
        self._position, self._leave = process_position, leave
        self._on = True
        self._next = 0.0
        self.bars: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Bars belong to their terminal."""
        return {**super().__getstate__(), "bars": {}}

    train_progress_bar = _bar("train")
    val_progress_bar = _bar("val")
    test_progress_bar = _bar("test")
    predict_progress_bar = _bar("predict")

    @property
    def refresh_rate(self) -> int:
        """Batches between two moves."""
        return self._rate

    @property
    def process_position(self) -> int:
        """Lines left free above."""
        return self._position

    @property
    def is_disabled(self) -> bool:
        """Whether nothing is drawn."""
        return not (self._on and self._rate > 0)

    def disable(self) -> None:
        """Stop drawing."""
        self._on = False

    def enable(self) -> None:
        """Draw again."""
        self._on = True

    def print(self, *args: Any, sep: str = " ", **options: Any) -> None:
        """Print above the bar that is drawn."""
        drawn = next((bar for bar in self.bars.values() if not bar.disable), None)
        if drawn is None:
            print(*args, sep=sep, **options)
        else:
            drawn.write(sep.join(map(str, args)), **options)

    # --- what to override -------------------------------------------------------------------------

    def init_sanity_tqdm(self) -> Any:
        """The bar of the sanity check."""
        return self._make(self.sanity_check_description, leave=False)

    def init_train_tqdm(self) -> Any:
        """The bar of training."""
        return self._make(self.train_description, leave=True, smoothing=0)

    def init_validation_tqdm(self) -> Any:
        """The bar of a validation, below that of training where there is one."""
        within = self.trainer.state.fn != "validate"
        return self._make(self.validation_description, leave=not within, below=int(within))

    def init_test_tqdm(self) -> Any:
        """The bar of a test."""
        return self._make(self.test_description, leave=True)

    def init_predict_tqdm(self) -> Any:
        """The bar of predictions."""
        return self._make(self.predict_description, leave=True, smoothing=0)

    def _make(self, title: str, below: int = 0, **options: Any) -> Any:
        place = 2 * self._position + below
        options |= {"position": place, "disable": self.is_disabled, "bar_format": self.BAR_FORMAT}
        return _tqdm()(desc=title, dynamic_ncols=True, file=sys.stdout, **options)

    # --- training ---------------------------------------------------------------------------------

    def on_sanity_check_start(self, trainer: "Trainer", module: "Module") -> None:
        """A bar for it, and an invisible one where others look for training's."""
        self.bars.update(val=self.init_sanity_tqdm(), train=_tqdm()(disable=True))

    def on_sanity_check_end(self, trainer: "Trainer", module: "Module") -> None:
        """It is taken away."""
        self.bars["val"].close()

    def on_train_start(self, trainer: "Trainer", module: "Module") -> None:
        """The bar of all epochs."""
        self.bars["train"] = self.init_train_tqdm()

    def on_train_epoch_start(self, trainer: "Trainer", module: "Module") -> None:
        """It begins anew."""
        if self._leave:
            self.bars["train"] = self.init_train_tqdm()
        self._restart("train", self.total_train_batches, f"Epoch {trainer.current_epoch}")

    def on_train_batch_end(
        self, trainer: "Trainer", module: "Module", outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """It moves."""
        self._move("train", batch_idx + 1, lambda: self.get_metrics(trainer, module))

    def on_train_epoch_end(self, trainer: "Trainer", module: "Module") -> None:
        """It shows the epoch's metrics."""
        self._show_metrics(trainer, module)
        if self._leave:
            self.bars["train"].close()

    def on_train_end(self, trainer: "Trainer", module: "Module") -> None:
        """It ends."""
        self.bars["train"].close()

    def on_exception(self, trainer: "Trainer", module: "Module", exception: BaseException) -> None:
        """Do not leave the error in the middle of a line."""
        for bar in self.bars.values():
            bar.close()

    # --- the other stages -------------------------------------------------------------------------

    def on_validation_start(self, trainer: "Trainer", module: "Module") -> None:
        """A bar of its own."""
        if not trainer.sanity_checking:
            self.bars["val"] = self.init_validation_tqdm()

    def on_validation_batch_start(
        self, trainer: "Trainer", module: "Module", batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Each loader begins it anew."""
        checking = trainer.sanity_checking
        title = self.sanity_check_description if checking else self.validation_description
        self._enter("val", dataloader_idx, self.total_val_batches_current_dataloader, title)

    def on_validation_batch_end(
        self,
        trainer: "Trainer",
        module: "Module",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """It moves."""
        self._move("val", batch_idx + 1)

    def on_validation_end(self, trainer: "Trainer", module: "Module") -> None:
        """It ends, and training's bar shows the metrics."""
        self.bars["val"].close()
        self.reset_dataloader_idx_tracker()
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._show_metrics(trainer, module)

    def on_test_start(self, trainer: "Trainer", module: "Module") -> None:
        """A bar for it."""
        self.bars["test"] = self.init_test_tqdm()

    def on_test_batch_start(
        self, trainer: "Trainer", module: "Module", batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Each loader begins it anew."""
        self._enter("test", dataloader_idx, self.total_test_batches_current_dataloader, self.test_description)

    def on_test_batch_end(
        self,
        trainer: "Trainer",
        module: "Module",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """It moves."""
        self._move("test", batch_idx + 1)

    def on_test_end(self, trainer: "Trainer", module: "Module") -> None:
        """It ends."""
        self.bars["test"].close()
        self.reset_dataloader_idx_tracker()

    def on_predict_start(self, trainer: "Trainer", module: "Module") -> None:
        """A bar for it."""
        self.bars["predict"] = self.init_predict_tqdm()

    def on_predict_batch_start(
        self, trainer: "Trainer", module: "Module", batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Each loader begins it anew."""
        total, title = self.total_predict_batches_current_dataloader, self.predict_description
        self._enter("predict", dataloader_idx, total, title)

    def on_predict_batch_end(
        self,
        trainer: "Trainer",
        module: "Module",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """It moves."""
        self._move("predict", batch_idx + 1)

    def on_predict_end(self, trainer: "Trainer", module: "Module") -> None:
        """It ends."""
        self.bars["predict"].close()
        self.reset_dataloader_idx_tracker()

    # --- how --------------------------------------------------------------------------------------

    def _enter(self, name: str, loader: int, total: float, title: str) -> None:
        if self.has_dataloader_changed(loader):
            self._restart(name, total, f"{title} DataLoader {loader}")

    def _restart(self, name: str, total: float, title: str) -> None:
        bar = self.bars[name]
        bar.reset()
        bar.initial, bar.total = 0, None if total == float("inf") else total
        bar.set_description(title)
        self._next = 0.0

    def _move(self, name: str, done: int, metrics: Callable[[], dict[str, Any]] | None = None) -> None:
        bar = self.bars[name]
        last = done == bar.total
        if bar.disable or not (last or done % self._rate == 0):
            return
        bar.n = done
        now = time.monotonic()
        if not last and now < self._next:
            return
        self._next = now + _REDRAW_S
        if metrics is None:
            bar.refresh()
        else:
            bar.set_postfix(metrics())

    def _show_metrics(self, trainer: "Trainer", module: "Module") -> None:
        bar = self.bars["train"]
        if not bar.disable:
            bar.set_postfix(self.get_metrics(trainer, module))
