"""One line that says how far training is, drawn by time and not by step."""

import sys
import time
from typing import IO, TYPE_CHECKING, Any

from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer

_WIDTH = 24


class ProgressBar(Callback):
    """Redraws its line on a terminal, and writes a line every few seconds elsewhere.

    Args:
        refresh_s: Time between drawings on a terminal.
        quiet_refresh_s: Time between lines where the output is no terminal.
        stream: Where to write; default standard error.
    """

    def __init__(
        self, refresh_s: float = 0.1, quiet_refresh_s: float = 5.0, stream: IO[str] | None = None
    ) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._live = self._stream.isatty()
        self._every_s = refresh_s if self._live else quiet_refresh_s
        self._next = 0.0
        self._began = 0.0
        self._first_batch = 0
        self._width = 0

    def on_train_epoch_start(self, trainer: "Trainer", module: "Module") -> None:
        """Begin to measure the speed anew."""
        self._began = time.monotonic()
        self._first_batch = trainer.counters.batch
        self._next = self._began + self._every_s

    def on_train_batch_end(
        self, trainer: "Trainer", module: "Module", outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw if it is time."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._every_s
            self._draw(trainer, now)

    def on_train_epoch_end(self, trainer: "Trainer", module: "Module") -> None:
        """Leave the epoch's last line behind."""
        if trainer.is_global_zero:
            self._draw(trainer, time.monotonic(), last=True)

    def on_exception(self, trainer: "Trainer", module: "Module", exception: BaseException) -> None:
        """Do not leave the error in the middle of a line."""
        if self._live and self._width:
            self._stream.write("\n")

    def _draw(self, trainer: "Trainer", now: float, last: bool = False) -> None:
        if not trainer.is_global_zero:
            return
        line = self.line(trainer, now)
        if self._live:
            padding = " " * max(0, self._width - len(line))
            self._stream.write(f"\r{line}{padding}" + ("\n" if last else ""))
            self._width = 0 if last else len(line)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def line(self, trainer: "Trainer", now: float) -> str:
        """What is shown."""
        counters, total = trainer.counters, trainer.num_training_batches
        elapsed = max(now - (self._began or now), 1e-9)
        speed = (counters.batch - self._first_batch) / elapsed
        epochs = f"/{trainer.max_epochs}" if trainer.max_epochs not in (None, -1) else ""
        parts = [f"epoch {counters.epoch + 1}{epochs}"]
        if isinstance(total, int) and total:
            filled = _WIDTH * counters.batch // total
            parts.append("━" * filled + "─" * (_WIDTH - filled) if self._live else "")
            left = _clock((total - counters.batch) / speed) if speed > 0 else "-"
            parts += [f"{counters.batch}/{total}", f"{_clock(elapsed)}<{left}"]
        else:
            parts += [f"{counters.batch} batches", _clock(elapsed)]
        parts.append(f"{speed:.1f} it/s" if speed >= 1 or not speed else f"{1 / speed:.1f} s/it")
        parts += [f"{name}={value:.4g}" for name, value in trainer.logbook.peek().items()]
        return "  ".join(part for part in parts if part)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
