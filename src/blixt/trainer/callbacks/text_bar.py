"""The usual progress bar: one line of text."""

import sys
from typing import IO, Any

from blixt.trainer.callbacks.timed_bar import Progress, TimedBar

_WIDTH = 24


class TQDMProgressBar(TimedBar):
    """Redraws its line on a terminal, and writes a line every few seconds elsewhere.

    It needs no package; the name is the one that users know.

    Args:
        refresh_rate: Draw at every so many batches at most; 0 for never.
        process_position: Lines to leave free above, for bars of other processes in one terminal.
        leave: Keep the line of each epoch on a terminal; elsewhere each stays.
        refresh_s: Seconds between drawings on a terminal, 0.1 at least.
        quiet_refresh_s: Seconds between lines where the output is no terminal.
        stream: Where to write; default standard error.
    """

    def __init__(
        self,
        refresh_rate: int = 1,
        process_position: int = 0,
        leave: bool = False,
        refresh_s: float = 0.1,
        quiet_refresh_s: float = 5.0,
        stream: IO[str] | None = None,
    ) -> None:
        # sys.stderr itself is looked up when it is needed: it changes, and it cannot be copied or pickled.
        self._given = stream
        self._live = self._stream.isatty()
        super().__init__(refresh_rate, max(0.1, refresh_s) if self._live else quiet_refresh_s, leave)
        self._position = process_position
        self._width = 0

    @property
    def _stream(self) -> IO[str]:
        return self._given if self._given is not None else sys.stderr

    def show(self, progress: Progress) -> None:
        """Redraw the line, or write one."""
        line = self.line(progress)
        if not self._live:
            self._stream.write(line + "\n")
        else:
            padding = " " * max(0, self._width - len(line))
            down, up = "\n" * self._position, f"\x1b[{self._position}A" if self._position else ""
            self._stream.write(f"{down}\r{line}{padding}{up}")
            self._width = len(line)
        self._stream.flush()

    def finish(self, progress: Progress, keep: bool) -> None:
        """Write the last state of an epoch."""
        self.show(progress)
        if self._live and keep:
            self.abandon()

    def abandon(self) -> None:
        """Go to a fresh line."""
        if self._live and self._width:
            self._stream.write("\n" * (1 + self._position))
            self._stream.flush()
        self._width = 0

    def print(self, *args: Any, **options: Any) -> None:
        """Print above the bar."""
        if self._live and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0
        print(*args, **options)

    def line(self, progress: Progress) -> str:
        """What is written."""
        parts = [progress.epoch or progress.title]
        if progress.total:
            filled = min(_WIDTH, _WIDTH * progress.done // progress.total)
            parts.append("━" * filled + "─" * (_WIDTH - filled) if self._live else "")
            left = "-" if progress.left_s is None else clock(progress.left_s)
            parts += [f"{progress.done}/{progress.total}", f"{clock(progress.elapsed_s)}<{left}"]
        else:
            parts += [f"{progress.done} batches", clock(progress.elapsed_s)]
        parts.append(progress.speed)
        parts += [f"{name}={number(value)}" for name, value in progress.metrics.items()]
        return "  ".join(part for part in parts if part)


def number(value: Any) -> str:
    """A metric in few characters."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def clock(seconds: float) -> str:
    """A duration as hours, minutes and seconds.

    Example:
        >>> clock(61), clock(3600)
        ('1:01', '1:00:00')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
