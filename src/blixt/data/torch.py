"""For PyTorch users: batches as tensors with exact resume, and an iterable form for torch's own DataLoader.

`Dataset` and `TokenDataset` are map-style datasets as they are. This module adds what needs torch's classes.
Torch is imported on first use and by name, because `blixt.data` also runs where no torch is installed.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from blixt.data.loader import Loader, rows_of_steps
from blixt.data.order import Int
from blixt.data.rows import Rows
from blixt.data.steps import End, Steps


class DataLoader(Loader):
    """Batches of tensors, read by torch's worker processes, or by a thread of this process.

    Unlike torch's loader it needs no sampler: the dataset's order says what each rank reads, and `state_dict`
    is exact in the middle of an epoch and loads under another world size, batch size or number of workers.

    Args:
        dataset: a `Dataset` or a `TokenDataset`.
        batch_size: items per batch and rank.
        end: what happens to a last batch that is not full: "drop_last", "pad" or "even".
        num_workers: processes that read and transform; 0 reads in a thread of this process.
        prefetch: batches read ahead (per worker, when there are workers).
        transform: applied to each batch of numpy arrays, before they become tensors.
        pin_memory: copy batches to page-locked memory, for a faster way to a GPU.
    """

    def __init__(
        self,
        dataset: Rows[Any],
        batch_size: int,
        *,
        end: End = "drop_last",
        num_workers: int = 0,
        prefetch: int = 2,
        transform: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
    ) -> None:
        ahead = 0 if num_workers or pin_memory else prefetch  # torch's loader reads ahead by itself
        super().__init__(dataset, batch_size, end=end, prefetch=ahead, transform=transform)
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self._worker_prefetch = max(prefetch, 1) if num_workers else None

    def _batches(self, steps: Steps) -> Iterator[Any]:
        data = import_module("torch.utils.data")
        if not self.num_workers and not self.pin_memory:
            return map(data.default_convert, super()._batches(steps))
        loader = data.DataLoader(
            _Gather(self.dataset, self.transform),
            batch_size=None,
            sampler=_RowsOfSteps(self.dataset, steps),
            num_workers=self.num_workers,
            prefetch_factor=self._worker_prefetch,
            pin_memory=self.pin_memory,
        )
        return iter(loader)


class _Gather:
    """A map-style dataset whose index is a whole batch of row numbers."""

    def __init__(self, dataset: Rows[Any], transform: Callable[[Any], Any] | None) -> None:
        self._dataset = dataset
        self._transform = transform

    def __getitem__(self, rows: Int) -> Any:
        batch = self._dataset.gather(rows)
        return batch if self._transform is None else self._transform(batch)


class _RowsOfSteps:
    """A sampler that gives the row numbers of each step."""

    def __init__(self, dataset: Rows[Any], steps: Steps) -> None:
        self._dataset = dataset
        self._steps = steps

    def __iter__(self) -> Iterator[Int]:
        return rows_of_steps(self._dataset, self._steps)

    def __len__(self) -> int:
        return len(self._steps)


class _Iterable:
    """The iterable form: this rank's items in order, dealt out to the DataLoader's workers in turn.

    `state_dict` counts what this process yielded, so it is exact with `num_workers=0`; with workers use
    `blixt.data.torch.DataLoader`, which counts where the batches arrive.
    """

    def __init__(self, dataset: Rows[Any]) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        worker = import_module("torch.utils.data").get_worker_info()
        if worker is None:
            return iter(self.dataset)
        return self._part(worker.id, worker.num_workers)

    def _part(self, worker: int, workers: int) -> Iterator[Any]:
        first = worker
        for rows, _ in self.dataset.runs():
            yield from self.dataset.items(rows[first::workers])
            first = (first - len(rows)) % workers

    def __len__(self) -> int:
        return len(Steps(len(self.dataset), 1, self.dataset.world_size, end="even"))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration reads."""
        self.dataset.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return where the epoch stands."""
        return self.dataset.state_dict()

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
