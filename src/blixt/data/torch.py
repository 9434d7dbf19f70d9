"""For PyTorch users: batches as tensors with exact resume, and datasets for torch's own DataLoader.

`Dataset`, `TokenDataset`, `Mix` and `Zip` are map-style datasets as they are. This module adds what needs
torch's classes: `DataLoader` (ours, tensors), `IterableDataset` and `BatchSampler` (for torch's). Torch is
imported on first use and by name, because `blixt.data` also runs where no torch is installed.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from blixt.data.ahead import rows_of_steps
from blixt.data.loader import Loader, Mode
from blixt.data.rows import Rows
from blixt.data.steps import End, Steps


class DataLoader(Loader):
    """`blixt.data.Loader` with tensors in place of arrays, and torch's names for its arguments.

    It needs no sampler: the dataset's order says what each rank reads, and `state_dict` is exact in the
    middle of an epoch and loads under another world size, batch size or number of workers. Lightning saves
    and loads it with its checkpoints; accelerate passes it through as it is, since it shares out rows by
    itself.

    Args:
        dataset: a `Dataset`, `TokenDataset`, `Subset`, `Mix` or `Zip`.
        batch_size: items per batch and rank.
        end: what happens to a last batch that is not full: "drop_last", "pad" or "even".
        drop_last: True is `end="drop_last"`, False is `end="even"`.
        num_workers: threads or processes that read; with 0 one thread of this process reads ahead.
        mode: who reads, see `Loader`.
        prefetch: batches read ahead by each worker.
        transform: applied to each batch of arrays, before they become tensors.
        sample_transform: applied to each sample, before they become a batch.
        pin_memory: copy batches to page-locked memory, for a faster way to a GPU.
        options: further arguments of `Loader`.
    """

    def __init__(
        self,
        dataset: Rows[Any],
        batch_size: int,
        *,
        end: End = "drop_last",
        drop_last: bool | None = None,
        num_workers: int = 0,
        mode: Mode = "auto",
        prefetch: int = 2,
        transform: Callable[[Any], Any] | None = None,
        sample_transform: Callable[..., Any] | None = None,
        pin_memory: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            dataset,
            batch_size,
            end=end,
            drop_last=drop_last,
            workers=num_workers,
            mode=mode,
            prefetch=prefetch,
            transform=sample_transform,
            batch_transform=transform,
            pin=pin_memory,
            **options,
        )

    def _batches(self, steps: Steps) -> Iterator[tuple[int, Any]]:
        convert = import_module("torch.utils.data").default_convert
        for step, batch in super()._batches(steps):
            yield step, convert(batch)


class BatchSampler:
    """Says to torch's `DataLoader` which items each batch has: this rank's part of the epoch, in order.

    For `torch.utils.data.DataLoader(dataset, batch_sampler=BatchSampler(dataset, 64))`. Such a loader asks
    for batches ahead of handing them out, so its state needs the number of batches that were handed out:
    `state_dict(batches)`.

    Args:
        dataset: the dataset that the loader reads.
        batch_size: items per batch and rank.
        end: what happens to a last batch that is not full: "drop_last", "pad" or "even".
    """

    def __init__(self, dataset: Rows[Any], batch_size: int, *, end: End = "drop_last") -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.end: End = end
        self._begun = self._steps(0)

    def __iter__(self) -> Iterator[list[int]]:
        self._begun = steps = self._steps(self.dataset.begin())
        for step in range(len(steps)):
            yield steps.positions(step).tolist()

    def __len__(self) -> int:
        return len(self._steps(0))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration reads."""
        self.dataset.set_epoch(epoch)

    def state_dict(self, batches: int) -> dict[str, Any]:
        """Return where the epoch stands once so many batches of this iteration were handed out."""
        consumed = self._begun.consumed_after(batches - 1) if batches else self._begun.consumed
        return {**self.dataset.state_dict(), "consumed": consumed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.dataset.load_state_dict(state)

    def _steps(self, consumed: int) -> Steps:
        dataset = self.dataset
        return Steps(len(dataset), self.batch_size, dataset.world_size, dataset.rank, consumed, self.end)


class _Iterable:
    """The iterable form: this rank's items in order, dealt out to the DataLoader's workers in turn.

    With a batch size (`DataLoader(IterableDataset(ds, batch_size=64), batch_size=None)`) it yields whole
    batches, dealt out to the workers so that they arrive in order: the same batches with any number of
    workers.

    `state_dict` counts what this process yielded, so it is exact with `num_workers=0`. With workers, tell it
    how many batches (with a batch size) were handed out: `state_dict(batches)`; or use
    `blixt.data.torch.DataLoader`, which counts where the batches arrive.

    Args:
        dataset: any dataset of `blixt.data`.
        batch_size: yield batches of so many items, as tensors; single items when None.
        end: what happens to a last batch that is not full: "drop_last", "pad" or "even".
    """

    def __init__(self, dataset: Rows[Any], batch_size: int | None = None, *, end: End = "even") -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.end: End = end
        self._steps(0)

    def __iter__(self) -> Iterator[Any]:
        data = import_module("torch.utils.data")
        worker = data.get_worker_info()
        first, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        if self.batch_size is None and worker is None:
            return iter(self.dataset)
        return self._items(first, workers) if self.batch_size is None else self._batches(first, workers)

    def _batches(self, first: int, workers: int) -> Iterator[Any]:
        convert = import_module("torch.utils.data").default_convert
        steps = self._steps(self.dataset.begin())
        chosen = range(first, len(steps), workers)
        for step, rows in rows_of_steps(self.dataset, steps, chosen):
            batch = convert(self.dataset.gather(rows))
            if workers == 1:
                self.dataset.advance(steps, step)
            yield batch
        if workers > 1 or not len(steps):
            self.dataset.finish()

    def _items(self, first: int, workers: int) -> Iterator[Any]:
        steps = self._steps(self.dataset.begin())
        for _, rows in rows_of_steps(self.dataset, steps, range(first, len(steps), workers)):
            yield self.dataset.item(int(rows[0]))
        self.dataset.finish()

    def _steps(self, consumed: int) -> Steps:
        dataset = self.dataset
        return Steps(len(dataset), self.batch_size or 1, dataset.world_size, dataset.rank, consumed, self.end)

    def __len__(self) -> int:
        return len(self._steps(0))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration reads."""
        self.dataset.set_epoch(epoch)

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """Return where the epoch stands; with `batches`, once so many of the begun epoch were handed out."""
        if batches is None:
            return self.dataset.state_dict()
        begun = self._steps(self.dataset.resume_at)
        return {
            **self.dataset.state_dict(),
            "consumed": begun.consumed_after(batches - 1) if batches else begun.consumed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.dataset.load_state_dict(state)


def __getattr__(name: str) -> Any:
    """Make `IterableDataset` when first asked for: torch's DataLoader knows only subclasses of its own."""
    if name != "IterableDataset":
        raise AttributeError(f"module 'blixt.data.torch' has no attribute {name!r}")
    base = import_module("torch.utils.data").IterableDataset
    members = {"__module__": __name__, "__doc__": _Iterable.__doc__}
    made = globals()["IterableDataset"] = type("IterableDataset", (_Iterable, base), members)
    return made
