"""Progress of a build with rate and time left: your callback, a bar on a terminal, or lines in a log."""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

Report = Callable[[int, int | None], None]
"""Called with (inputs done, inputs in all; None while nobody knows)."""
_LINE_EVERY_S = 10.0


@contextmanager
def reporting(progress: bool | Report | None, title: str) -> Generator[Report]:
    """Give the function to call: yours, a bar's, one that prints lines, or one that does nothing.

    None and True mean a bar where standard error is a terminal, and otherwise a line every ten seconds.
    """
    if callable(progress):
        yield progress
    elif progress is False:
        yield lambda done, total: None
    elif sys.stderr.isatty():
        with _bar(title) as report:
            yield report
    else:
        yield Lines(title)


@contextmanager
def _bar(title: str) -> Generator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    meter = Meter()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, rate="")

        def report(done: int, total: int | None) -> None:
            meter.update(done)
            bar.update(task, completed=done, total=total, rate=meter.rate_text())

        yield report


class Meter:
    """Inputs per second since the first report, which counts what an earlier run had done."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, int] | None = None
        self._rate = 0.0
        self.elapsed_s = 0.0

    def update(self, done: int) -> None:
        """Take in how many inputs are done now."""
        now = self._clock()
        began, at_first = self._first = self._first or (now, done)
        self.elapsed_s = now - began
        if self.elapsed_s > 0:
            self._rate = (done - at_first) / self.elapsed_s

    def rate_text(self) -> str:
        """Return the rate as text, such as `350/s`."""
        return f"{self._rate:,.0f}/s" if self._rate >= 10 else f"{self._rate:.2g}/s"

    def left_text(self, done: int, total: int | None) -> str:
        """Return the time left as text, such as `1:05 left`."""
        if total is None or not self._rate:
            return "time left unknown"
        minutes, seconds = divmod(round((total - done) / self._rate), 60)
        return f"{minutes}:{seconds:02d} left"


class Lines:
    """Prints a line to standard error every ten seconds, so a log shows that a long build is alive."""

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._title = title
        self._meter = Meter(clock)
        self._printed_s = 0.0

    def __call__(self, done: int, total: int | None) -> None:
        """Take in progress; print if it is time."""
        meter = self._meter
        meter.update(done)
        if meter.elapsed_s - self._printed_s < _LINE_EVERY_S:
            return
        self._printed_s = meter.elapsed_s
        of = "" if total is None else f" of {total:,}"
        text = f"{self._title}: {done:,}{of} inputs, {meter.rate_text()}, {meter.left_text(done, total)}"
        print(text, file=sys.stderr, flush=True)
