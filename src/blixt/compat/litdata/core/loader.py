"""LitData's `StreamingDataLoader`: torch's, which counts what it handed out."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data import default_collate as _collate  # pyright: ignore[reportUnknownVariableType]

from blixt.compat.litdata.core.base import StreamingBase
from blixt.compat.litdata.core.dataset import StreamingDataset
from blixt.compat.litdata.core.places import location_of
from blixt.compat.litdata.core.profiling import InWorker, Profiling


def litdata_collate(items: list[Any]) -> Any:
    """Make a batch: torch's `default_collate`, and `torch_geometric`'s for its graphs."""
    if items and type(items[0]).__module__.startswith("torch_geometric"):
        return import_module("torch_geometric.data").Batch.from_data_list(items)
    return _collate(items)


class StreamingDataLoader(DataLoader[Any]):
    """Batches of a streaming dataset, with a state that is exact in the middle of an epoch.

    With `profile_cprofile=True` an epoch leaves `cprofile_main` and `cprofile_worker0` (`.prof`, `.txt`) in
    `profile_dir`; with `profile_batches` worker 0 leaves a trace of so many batches, `result.json`, which
    chrome://tracing and Perfetto show. Only rank 0 does.

    Raises:
        RuntimeError: when the dataset is not one of LitData's three kinds.
        ValueError: for kinds of profiling that exclude each other.
    """

    def __init__(
        self,
        dataset: Any,
        *args: Any,
        batch_size: int | list[int] = 1,
        num_workers: int = 0,
        profile_batches: bool | int = False,
        profile_skip_batches: int = 0,
        profile_dir: str | None = None,
        profile_cprofile: bool = False,
        prefetch_factor: int | None = None,
        shuffle: bool | None = None,
        drop_last: bool | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(dataset, StreamingBase):
            raise RuntimeError(
                "The provided dataset should be either an instance of StreamingDataset, "
                f"CombinedStreamingDataset or ParallelStreamingDataset. Found {dataset}."
            )
        asked = Profiling(profile_batches, profile_skip_batches, profile_dir, profile_cprofile)
        asked.check(num_workers)
        if shuffle is not None:
            dataset.set_shuffle(shuffle)
        if drop_last is not None:
            dataset.set_drop_last(drop_last)
        dataset.set_batch_size(batch_size)
        dataset.set_num_workers(num_workers)
        if num_workers and "multiprocessing_context" not in kwargs and _is_remote(dataset):
            kwargs["multiprocessing_context"] = "forkserver"  # a store's connections do not survive a fork
        collate_fn = collate_fn or litdata_collate
        self._profiling = asked if dataset.rows.rank == 0 else Profiling()
        if num_workers and (self._profiling.batches or self._profiling.cprofile):
            watch = InWorker(self._profiling, kwargs.pop("worker_init_fn", None), collate_fn)
            collate_fn, kwargs["worker_init_fn"] = watch.collate, watch.init
        super().__init__(  # pyright: ignore[reportUnknownMemberType]
            dataset,
            *args,
            batch_size=dataset.batch_size,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor if num_workers else None,
            collate_fn=collate_fn,
            **kwargs,
        )
        self.current_epoch = 0
        self._resumed = False
        self._begin = self._samples = 0

    def __iter__(self) -> Any:
        """Yield batches; each iteration is an epoch, or the rest of one that was loaded."""
        return self._epoch()

    def _epoch(self) -> Iterator[Any]:
        dataset: Any = self.dataset
        if not self._resumed:
            self.current_epoch += 1
            dataset.set_epoch(self.current_epoch)
            dataset.reset_state_dict()
        self._resumed, self._samples, self._begin = False, 0, dataset.begins_at
        left = dataset.part.count(self._begin, dataset.part.usable)
        size = int(self.batch_size or 1)
        batches = super().__iter__()
        for batch in self._profiling.timed(batches) if self._profiling.cprofile else batches:
            self._samples = min(self._samples + size, left)
            yield batch
        self._samples = left

    def state_dict(self) -> dict[str, Any]:
        """Return where the epoch stands, counting the batches that were handed out."""
        dataset: Any = self.dataset
        return {
            "dataset": dataset.state_at(self._begin, self._samples),
            "current_epoch": self.current_epoch,
            "num_samples_yielded": self._samples,
        }

    def load_state_dict(self, obj: dict[str, Any]) -> None:
        """Go on from a state, with any batch size and number of workers and ranks."""
        dataset: Any = self.dataset
        dataset.load_state_dict(obj["dataset"])
        self.current_epoch = dataset.current_epoch
        self._resumed, self._begin, self._samples = True, dataset.begins_at, 0


def _is_remote(dataset: Any) -> bool:
    parts = getattr(dataset, "datasets", [dataset])
    return any("://" in location_of(part.input_dir) for part in parts if isinstance(part, StreamingDataset))
