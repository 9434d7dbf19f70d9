"""What commands print: tables for people, JSON for programs, progress on stderr."""

import json
import math
import sys
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

STATE_STYLES = {
    "running": "green",
    "ready": "green",
    "succeeded": "green",
    "failed": "red",
    "degraded": "yellow",
    "starting": "yellow",
    "stopping": "yellow",
    "pending": "yellow",
    "uploading": "yellow",
}
_PIPED_WIDTH = 400  # wide enough that a table in a pipe is never cut


@cache
def console(*, stderr: bool = False) -> "Console":
    """The rich console for stdout or stderr."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr, width=None if stream.isatty() else _PIPED_WIDTH, highlight=False, soft_wrap=True
    )


def print_json(value: Any) -> None:
    """Print a value as JSON: dataclasses as objects, tuples as lists."""
    json.dump(_plain(value), sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Print a table, or a sentence when it has no rows.

    Args:
        columns: The headings; one that begins with `>` is aligned to the right, `state` is coloured.
        rows: The cells.
        empty: What to say when there is nothing to show.
    """
    from rich.table import Table
    from rich.text import Text

    lines = list(rows)
    if not lines:
        console(stderr=True).print(empty, style="dim")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.removeprefix(">").upper(), justify="right" if right else "left", no_wrap=True)
    for line in lines:
        table.add_row(*[Text(cell, style=STATE_STYLES.get(cell, "")) for cell in line])
    console().print(table)


def print_fields(fields: dict[str, str]) -> None:
    """Print names and values, one a line, aligned; empty values are left out."""
    shown = {name: value for name, value in fields.items() if value}
    width = max((len(name) for name in shown), default=0)
    from rich.text import Text

    for name, value in shown.items():
        line = Text(f"{name:<{width}}  ", style="bold")
        line.append(value, style=STATE_STYLES.get(value, "not bold"))
        console().print(line)


def say(text: str) -> None:
    """Tell a person something on stderr, so that stdout stays data."""
    console(stderr=True).print(text, markup=False)


@contextmanager
def waiting(text: str) -> Generator[None, None, None]:
    """A spinner on stderr while something takes its time; silent without a terminal."""
    with console(stderr=True).status(text):
        yield


@contextmanager
def byte_progress(text: str, total_bytes: int | None) -> Generator["Progress", None, None]:
    """A progress bar for bytes on stderr; `progress.advance(progress.task_ids[0], n)` moves it."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    screen = console(stderr=True)
    bar = Progress(
        TextColumn(text),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
    )
    with bar:
        bar.add_task(text, total=total_bytes)
        yield bar


def ago(moment: float | None) -> str:
    """A time as people say it: `12s ago`, `3h ago`; empty when there is none."""
    return f"{duration(time.time() - moment)} ago" if moment else ""


def duration(seconds: float) -> str:
    """A duration in its one or two largest units.

    >>> duration(42.4), duration(95), duration(7260), duration(90000)
    ('42s', '1m35s', '2h1m', '1d1h')
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def size(size_bytes: float) -> str:
    """A size for people.

    >>> size(512), size(2048), size(5_000_000)
    ('512 B', '2.0 KB', '4.8 MB')
    """
    for unit in ("B", "KB", "MB", "GB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TB"


def number(value: float) -> str:
    """A metric with four significant digits."""
    return f"{value:.4g}"


def _plain(value: Any) -> Any:
    """A value as JSON knows it; NaN and the infinities become strings, as in the API."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast(Sequence[Any], value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, str | int):
        return value
    array: Any = value
    return _plain(array.tolist()) if hasattr(array, "tolist") else str(array)
