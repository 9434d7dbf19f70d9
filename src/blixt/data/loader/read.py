"""One batch from its rows: gather, the user's transforms, and errors that say which row they met."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, cast

import numpy as np

from blixt.data.ahead import planned
from blixt.data.filemap import confirm
from blixt.data.loader.collate import collate
from blixt.data.order import Int
from blixt.data.permute import mix_numbers
from blixt.data.rows import Allocate, Rows
from blixt.data.steps import Steps
from blixt.data.together import Stored

_NAMED_ROWS = 8
_TOGETHER_BYTES = 64 << 20
"""About how many stored bytes are looked up at once."""


class Nothing(Enum):
    """What stands for a batch of which `transform` left out every row."""

    EMPTY = 0


EMPTY = Nothing.EMPTY


@dataclass(frozen=True)
class Reader:
    """What a loader does with the rows of a step, wherever it does it.

    Args:
        dataset: gives the rows.
        transform: made each sample; None leaves a row out.
        batch_transform: made each batch.
        collate: makes a batch of samples; `blixt.data.loader.collate` when None.
        random: give `transform` a generator as its second argument.
        views: give bytes as memoryviews.
    """

    dataset: Rows[Any]
    transform: Callable[..., Any] | None = None
    batch_transform: Callable[[Any], Any] | None = None
    collate: Callable[[list[Any]], Any] | None = None
    random: bool = False
    views: bool = False

    @property
    def runs_user_code(self) -> bool:
        """Whether Python of the user runs for each batch."""
        return any(f is not None for f in (self.transform, self.batch_transform, self.collate))

    def read(self, steps: Steps, step: int, rows: Int, allocate: Allocate = np.empty) -> Any:
        """Return the batch of a step.

        Raises:
            Exception: whatever reading or the user's code raised, with a note that names the rows.
        """
        try:
            batch = self._gather(steps, step, rows, allocate)
        except Exception as problem:
            _note(problem, rows, step)
            raise
        if self.batch_transform is None or batch is EMPTY:
            return batch
        try:
            return self.batch_transform(batch)
        except Exception as problem:
            problem.add_note(f"blixt.data: in batch_transform, with {named(rows)} (step {step})")
            raise

    def read_views(self, steps: Steps, step: int, rows: Int) -> Any:
        """Return the batch of a step as `finish` wants it: with views where bytes are to be copied yet."""
        if self.runs_user_code or self.views:
            return self.read(steps, step, rows)
        return replace(self, views=True).read(steps, step, rows)

    def batches(self, steps: Steps, chosen: range) -> Iterator[Any]:
        """Yield what `read_views` returns for each of the chosen steps.

        Where the dataset can, several steps are looked up together, more and more of them, so that the first
        batch is there soon.
        """
        size, count = steps.batch_size, 1
        most = max(1, int(_TOGETHER_BYTES / max(self.dataset.row_bytes * size, 1)))
        for run, rows in planned(self.dataset, steps, chosen):
            low = 0
            while low < len(run):
                some, count = run[low : low + count], min(2 * count, most)
                yield from self._of_steps(steps, some, rows[low * size : (low + len(some)) * size])
                low += len(some)

    def _of_steps(self, steps: Steps, some: range, rows: Int) -> Iterator[Any]:
        together = None
        if len(some) > 1 and not self.runs_user_code:
            with suppress(Exception):  # it is met again at its own step
                together = self.dataset.batches(rows, steps.batch_size)
        for number, step in enumerate(some):  # only the last step of "even" may have fewer rows
            low = number * steps.batch_size
            mine = rows[low : low + steps.batch_size]
            if together is None:
                yield self.read_views(steps, step, mine)
                continue
            try:
                batch = next(together, None)
            except Exception as problem:
                _note(problem, mine, step)
                raise
            if batch is None:
                together, batch = None, self.read_views(steps, step, mine)
            yield batch

    def finish(self, steps: Steps, step: int, batch: Any) -> Any:
        """Return what `read` returns, of what `read_views` returned.

        Copying needs the interpreter lock and memory that the consumer has just let go of, so its own
        thread copies faster than one that reads ahead.
        """
        if self.runs_user_code:
            return batch
        try:
            return _owned(batch, self.views)
        except Exception as problem:
            self._note_step(problem, steps, step)
            raise

    def check(self, steps: Steps, step: int, values: Stored) -> None:
        """Check values of the batch of a step, which `finish` need not do then."""
        try:
            values.check()
        except Exception as problem:
            self._note_step(problem, steps, step)
            raise

    def _note_step(self, problem: Exception, steps: Steps, step: int) -> None:
        _note(problem, self.dataset.order.at(steps.positions(step)), step)

    def _gather(self, steps: Steps, step: int, rows: Int, allocate: Allocate) -> Any:
        if self.transform is None and self.collate is None:
            return self.dataset.views(rows, allocate) if self.views else self.dataset.gather(rows, allocate)
        samples = self.dataset.items(rows)
        if self.transform is not None:
            samples = self._transformed(steps, step, rows, samples)
        if not samples:
            return EMPTY
        return collate(samples, allocate) if self.collate is None else self.collate(samples)

    def _transformed(self, steps: Steps, step: int, rows: Int, samples: list[Any]) -> list[Any]:
        kept: list[Any] = []
        transform, positions = self.transform, steps.positions(step)
        assert transform is not None
        for row, position, sample in zip(rows.tolist(), positions.tolist(), samples, strict=True):
            try:
                made = transform(sample, self._generator(position)) if self.random else transform(sample)
            except Exception as problem:
                problem.add_note(f"blixt.data: in transform, with row {row} (step {step})")
                raise
            if made is not None:
                kept.append(made)
        return kept

    def _generator(self, position: int) -> "np.random.Generator":
        key = mix_numbers(self.dataset.seed, self.dataset.epoch, position)
        return np.random.Generator(np.random.Philox(key=key))


def in_place(batch: Any) -> Stored | None:
    """Return values of a batch that lie in mapped files and are neither checked nor copied; None without."""
    if isinstance(batch, Stored):
        return batch
    if not isinstance(batch, (dict, tuple)):
        return None
    values = cast("Iterable[Any]", batch.values() if isinstance(batch, dict) else batch)
    return next(filter(None, map(in_place, values)), None)


def _owned(batch: Any, views: bool) -> Any:
    """Return a batch with its bytes copied, or with views of them."""
    if isinstance(batch, Stored):
        return batch.views() if views else batch.copies()
    if isinstance(batch, list):
        items = cast("list[Any]", batch)
        return _copies(items) if items and isinstance(items[0], memoryview) and not views else items
    if isinstance(batch, dict):
        return {key: _owned(value, views) for key, value in cast("dict[Any, Any]", batch).items()}
    if isinstance(batch, tuple):
        return tuple(_owned(value, views) for value in cast("tuple[Any, ...]", batch))
    return batch


def _copies(views: list[memoryview]) -> list[bytes]:
    copies = list(map(bytes, views))
    confirm(views)
    return copies


def _note(problem: Exception, rows: Int, step: int) -> None:
    if not getattr(problem, "__notes__", None):
        problem.add_note(f"blixt.data: while reading {named(rows)} (step {step})")


def named(rows: Int) -> str:
    """Return the first few of the rows as text, for an error."""
    shown = ", ".join(map(str, rows[:_NAMED_ROWS].tolist()))
    return f"rows {shown}{', ...' if len(rows) > _NAMED_ROWS else ''}"
