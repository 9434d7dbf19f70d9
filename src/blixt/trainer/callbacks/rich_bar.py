"""A progress bar in colours, by the rich package."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blixt.fabric import ConfigError
from blixt.trainer.callbacks.text_bar import number
from blixt.trainer.callbacks.timed_bar import Progress, TimedBar

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


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
        self.progress: Any = None
        self._lines: dict[str, Any] = {}
        self._drawing = False

    def __getstate__(self) -> dict[str, Any]:
        """What is drawn belongs to its terminal."""
        return {**super().__getstate__(), "progress": None, "_lines": {}, "_drawing": False}

    def configure_columns(self, trainer: "Trainer") -> "list[ProgressColumn]":
        """The columns of rich that the bar has; override it to choose others.

        Metrics come behind them in any case. A cell of your own finds the batches as `task.completed` and
        `task.total`, and the title as `task.description`.
        """
        from blixt.trainer.callbacks.rich_columns import standard_columns

        return standard_columns(self.theme)

    def show(self, progress: Progress) -> None:
        """Redraw the lines."""
        if not self._drawing:
            self._start()
        title = f"{progress.title} {progress.epoch}".strip()
        if self._stage not in self._lines:
            self._lines[self._stage] = self.progress.add_task(title, total=progress.total)
        line = self._lines[self._stage]
        self._hide_others(line)
        task = next(task for task in self.progress.tasks if task.id == line)
        task.start_time = task.get_time() - progress.elapsed_s
        self.progress.update(
            line,
            description=title,
            completed=progress.done,
            total=progress.total,
            visible=True,
            left_s=progress.left_s,
            speed=progress.speed,
            metrics=self._numbers(progress.metrics),
        )
        if progress.total is None:  # rich takes None for "as it was"
            task.total = None
        self.progress.refresh()

    def finish(self, progress: Progress, keep: bool) -> None:
        """Draw the last state of an epoch."""
        self.show(progress)
        if keep:
            self.abandon()

    def abandon(self) -> None:
        """Give the terminal back."""
        if self._drawing:
            self.progress.stop()
            self._drawing = False

    def teardown(self, trainer: "Trainer", module: "Module", stage: str) -> None:
        """A run that ended between two epochs leaves the terminal too."""
        self.abandon()

    def print(self, *args: Any, **options: Any) -> None:
        """Print above the bar."""
        if self._drawing:
            self.progress.console.print(*args, **options)
        else:
            print(*args, **options)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import Progress as Display

        from blixt.trainer.callbacks.rich_columns import MetricsColumn

        columns = [*self.configure_columns(self.trainer), MetricsColumn(self.theme.metrics)]
        self.progress = Display(*columns, console=Console(**self._console_options), auto_refresh=False)
        self._lines = {}
        self._drawing = True
        self.progress.start()

    def _hide_others(self, line: Any) -> None:
        """Training's line stays while a validation runs within it; every other line goes with its stage."""
        for stage, other in self._lines.items():
            if other != line and stage != "train":
                self.progress.update(other, visible=False)

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
