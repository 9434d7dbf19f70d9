"""The columns of the bar in colours; programs that choose columns themselves mix them with rich's own."""

from abc import abstractmethod
from typing import TYPE_CHECKING

from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.style import Style
from rich.text import Text

from blixt.trainer.callbacks.text_bar import clock

if TYPE_CHECKING:
    from blixt.trainer.callbacks.rich_bar import RichProgressBarTheme

__all__ = ["BatchesColumn", "MetricsColumn", "SpeedColumn", "TimeColumn", "standard_columns"]


class _Styled(ProgressColumn):
    """A column of text in one style.

    Args:
        style: As rich writes it: "dim", "bold red" ...
    """

    def __init__(self, style: str | Style = "") -> None:
        super().__init__()
        self.style = style

    def render(self, task: Task) -> Text:
        """The cell of one line."""
        return Text(self.text(task), style=self.style)

    @abstractmethod
    def text(self, task: Task) -> str:
        """What stands in the cell."""


class BatchesColumn(_Styled):
    """Batches done and in all."""

    def text(self, task: Task) -> str:
        """Such as "3/10"; "3/?" when nobody knows how many come."""
        return f"{int(task.completed)}/{'?' if task.total is None else int(task.total)}"


class TimeColumn(_Styled):
    """Time passed and left."""

    def text(self, task: Task) -> str:
        """Such as "0:05 • 0:10"."""
        left = task.fields.get("left_s", task.time_remaining)
        return f"{clock(task.elapsed or 0.0)} • {'-:--' if left is None else clock(left)}"


class SpeedColumn(_Styled):
    """Batches a second."""

    def text(self, task: Task) -> str:
        """Such as "12.5 it/s"."""
        return str(task.fields.get("speed", f"{task.speed or 0.0:.1f} it/s"))


class MetricsColumn(_Styled):
    """Names and numbers that were logged for the bar; it stands behind all other columns."""

    def text(self, task: Task) -> str:
        """Such as "v_num: 3 loss: 0.125"."""
        return str(task.fields.get("metrics", ""))


def standard_columns(theme: "RichProgressBarTheme") -> list[ProgressColumn]:
    """What a bar shows when nobody chooses."""
    return [
        TextColumn("{task.description}", style=theme.description, markup=False),
        BarColumn(
            bar_width=30,
            complete_style=theme.progress_bar,
            finished_style=theme.progress_bar_finished,
            pulse_style=theme.progress_bar_pulse,
        ),
        BatchesColumn(theme.batch_progress),
        TimeColumn(theme.time),
        SpeedColumn(theme.processing_speed),
    ]
