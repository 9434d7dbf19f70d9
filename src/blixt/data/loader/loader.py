"""The loader: batches of a dataset, read inline, by threads or by processes, with an exact state."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

from blixt.data.loader.pin import pinned
from blixt.data.loader.processes import Pool
from blixt.data.loader.read import EMPTY, Reader
from blixt.data.loader.threads import inline, threaded
from blixt.data.rows import Rows
from blixt.data.steps import End, Steps

Mode = Literal["auto", "inline", "threads", "processes"]
MODES: tuple[Mode, ...] = ("auto", "inline", "threads", "processes")


class Loader:
    """Iterate over a dataset in batches.

    Every iteration is one epoch of this rank's batches; the next iteration reads the next epoch.
    `state_dict` is exact in the middle of an epoch, whatever was read ahead, and loads under another world
    size, batch size, number of workers or mode.

    Modes: "inline" reads in the caller's thread; "threads" suits what frees the interpreter lock (numbers,
    tokens, decoding images); "processes" suits your own Python. "auto" is processes when there are workers
    and your code runs for each batch, else threads, of which one reads ahead even with `workers=0`.

    Process workers write into shared memory, and batches are views of it: they stay valid as long as you
    hold them (when you hold on to more than two, further ones are copied).

    Args:
        dataset: a `Dataset`, `TokenDataset`, `Subset`, `Mix` or `Zip`.
        batch_size: items per batch and rank.
        end: what happens to a last batch that is not full: "drop_last", "pad" or "even" (see
        `blixt.data.steps`). drop_last: True is `end="drop_last"`, False is `end="even"`.
        workers: threads or processes that read.
        mode: who reads, see above.
        prefetch: batches that each worker reads ahead; 0 without workers reads inline. Threads look batches
            of stored bytes up further ahead, which take no memory before they are copied.
        transform: `sample -> sample`, applied to each sample before they become a batch; None leaves the
        row out. batch_transform: `batch -> batch`.
        collate: `list of samples -> batch`, in place of stacking.
        random: call `transform(sample, rng)`, with a generator made from the dataset's seed, the epoch and
        the
            position: the same on any number of ranks and workers.
        views: give stored bytes as memoryviews of the memory they lie in, not as `bytes`.
        copy: give arrays memory of their own.
        pin: give tensors in page-locked memory (needs torch and a GPU).
        timeout_s: how long a batch may take before its worker counts as stuck; one that starts has 120 s at
            least.
        slot_bytes: the largest batch that fits into shared memory; it costs only what is used.

    Raises:
        ValueError: when an argument is out of range, or two contradict each other.

    Example:
        `for batch in Loader(dataset, 64, workers=4, transform=augment): ...`
    """

    def __init__(
        self,
        dataset: Rows[Any],
        batch_size: int,
        *,
        end: End = "drop_last",
        drop_last: bool | None = None,
        workers: int = 0,
        mode: Mode = "auto",
        prefetch: int = 2,
        transform: Callable[..., Any] | None = None,
        batch_transform: Callable[[Any], Any] | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
        random: bool = False,
        views: bool = False,
        copy: bool = False,
        pin: bool = False,
        timeout_s: float = 300.0,
        slot_bytes: int = 1 << 30,
    ) -> None:
        _check(mode, workers, prefetch, timeout_s, slot_bytes)
        self.dataset = dataset
        self.batch_size = batch_size
        self.end: End = _end(end, drop_last)
        self.workers, self.prefetch, self.pin = workers, prefetch, pin
        self._reader = Reader(dataset, transform, batch_transform, collate, random, views)
        self.mode: Mode = _chosen(mode, workers, prefetch, self._reader)
        self._timeout_s, self._slot_bytes, self._copy = timeout_s, slot_bytes, copy
        self._pool: Pool | None = None
        self._steps(0)

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return len(self._steps(0))

    def __iter__(self) -> Iterator[Any]:
        steps = self._steps(self.dataset.begin())
        if not len(steps):
            self.dataset.finish()
        for step, batch in self._batches(steps):
            self.dataset.advance(steps, step)
            if batch is not EMPTY:
                yield batch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration reads."""
        self.dataset.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return where the epoch stands, counting the batches that were handed out."""
        return self.dataset.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.dataset.load_state_dict(state)

    def close(self) -> None:
        """End the worker processes; they also end with the loader. The next iteration starts new ones."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _steps(self, consumed: int) -> Steps:
        dataset = self.dataset
        return Steps(len(dataset), self.batch_size, dataset.world_size, dataset.rank, consumed, self.end)

    def _batches(self, steps: Steps) -> Iterator[tuple[int, Any]]:
        if self.mode == "processes":
            batches = self._processes().batches(steps)
        elif self.mode == "inline":
            batches = inline(self._reader, steps)
        else:
            threads, ahead = max(self.workers, 1), max(self.prefetch, 1)
            batches = threaded(
                self._reader, steps, threads=threads, prefetch=ahead, timeout_s=self._timeout_s
            )
        return pinned(batches, self._timeout_s) if self.pin else batches

    def _processes(self) -> Pool:
        if self._pool is None or not self._pool.close.alive:
            self._pool = Pool(
                self._reader,
                workers=max(self.workers, 1),
                prefetch=max(self.prefetch, 1),
                slot_bytes=self._slot_bytes,
                timeout_s=self._timeout_s,
                copy=self._copy,
            )
        return self._pool

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the processes."""
        return {**self.__dict__, "_pool": None}


def _chosen(mode: Mode, workers: int, prefetch: int, reader: Reader) -> Mode:
    if mode != "auto":
        return mode
    if workers:
        return "processes" if reader.runs_user_code else "threads"
    return "threads" if prefetch else "inline"


def _end(end: End, drop_last: bool | None) -> End:
    if drop_last is None:
        return end
    if not drop_last and end == "pad":
        return end
    return "drop_last" if drop_last else "even"


def _check(mode: str, workers: int, prefetch: int, timeout_s: float, slot_bytes: int) -> None:
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if workers < 0 or prefetch < 0:
        raise ValueError(f"workers and prefetch must not be negative, got {workers} and {prefetch}")
    if timeout_s <= 0 or slot_bytes < 1:
        raise ValueError(f"timeout_s and slot_bytes must be positive, got {timeout_s} and {slot_bytes}")
