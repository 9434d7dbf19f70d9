"""A progress bar in colours, by the rich package."""

from dataclasses import dataclass
from typing import Any

from blixt.fabric import ConfigError
from blixt.trainer.callbacks.text_bar import clock, number
from blixt.trainer.callbacks.timed_bar import Progress, TimedBar


@dataclass(frozen=True)
class RichProgressBarTheme:
    """Styles of the parts of a `RichProgressBar`, as rich writes them: "bold red", "#6206E0", ...

    Attributes:
        description: Title and epoch.
        progress_bar: The filled part.
        progress_bar_finished: The bar when it is full.
        progress_bar_pulse: The bar while the length is unknown.
        batch_progress: Batches done and in all.
        time: Time passed and left.
        processing_speed: Batches a second.
        metrics: Names and numbers.
        metrics_text_delimiter: What stands between metrics.
        metrics_format: How numbers are written.
    """

    description: str = ""
    progress_bar: str = "#6206E0"
    progress_bar_finished: str = "#6206E0"
    progress_bar_pulse: str = "#6206E0"
    batch_progress: str = ""
    time: str = "dim"
    processing_speed: str = "dim underline"
    metrics: str = "italic"
    metrics_text_delimiter: str = " "
    metrics_format: str = ".3f"


class RichProgressBar(TimedBar):
    """Draws one line for training and one for whatever runs within it.

    Args:
        refresh_rate: Draw at every so many batches at most; 0 for never.
        leave: Keep the line of each epoch.
        theme: Colours and formats.
        console_kwargs: For rich's `Console`.
        refresh_s: Seconds between drawings.

    Raises:
        ConfigError: When rich is not installed.
    """

    def __init__(
        self,
        refresh_rate: int = 1,
        leave: bool = False,
        theme: RichProgressBarTheme | None = None,
        console_kwargs: dict[str, Any] | None = None,
        refresh_s: float = 0.1,
    ) -> None:
        need_rich("RichProgressBar")
        super().__init__(refresh_rate, max(0.1, refresh_s), leave)
        self.theme = theme if theme is not None else RichProgressBarTheme()
        self._console_options = console_kwargs or {}
        self._live: Any = None

    def show(self, progress: Progress) -> None:
        """Redraw the line."""
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(**self._console_options), auto_refresh=False, transient=False)
            self._live.start()
        self._live.update(self.render(progress), refresh=True)

    def finish(self, progress: Progress, keep: bool) -> None:
        """Draw the last state of an epoch."""
        self.show(progress)
        if keep:
            self.abandon()

    def abandon(self) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def print(self, *args: Any, **options: Any) -> None:
        """Print above the bar."""
        if self._live is not None:
            self._live.console.print(*args, **options)
        else:
            print(*args, **options)

    def render(self, progress: Progress) -> Any:
        """The line as something that rich can draw."""
        from rich.progress_bar import ProgressBar as Bar
        from rich.table import Table
        from rich.text import Text

        theme = self.theme
        full = progress.total is not None and progress.done >= progress.total
        bar = Bar(
            total=progress.total,
            completed=progress.done,
            width=30,
            pulse=progress.total is None,
            complete_style=theme.progress_bar,
            finished_style=theme.progress_bar_finished if full else theme.progress_bar,
            pulse_style=theme.progress_bar_pulse,
        )
        left = "-:--" if progress.left_s is None else clock(progress.left_s)
        total = "?" if progress.total is None else progress.total
        cells = [
            Text(f"{progress.title} {progress.epoch}".strip(), style=theme.description),
            bar,
            Text(f"{progress.done}/{total}", style=theme.batch_progress),
            Text(f"{clock(progress.elapsed_s)} • {left}", style=theme.time),
            Text(progress.speed, style=theme.processing_speed),
            Text(self._numbers(progress.metrics), style=theme.metrics),
        ]
        grid = Table.grid(padding=(0, 1))
        grid.add_row(*cells)
        return grid

    def _numbers(self, metrics: dict[str, Any]) -> str:
        form = self.theme.metrics_format
        texts = [
            f"{name}: {format(value, form) if isinstance(value, float) else number(value)}"
            for name, value in metrics.items()
        ]
        return self.theme.metrics_text_delimiter.join(texts)


def need_rich(owner: str) -> None:
    """Say what to install when rich is missing."""
    from importlib.util import find_spec

    if find_spec("rich") is None:
        raise ConfigError(owner, "rich", "the package is not installed", "Run: pip install rich")
