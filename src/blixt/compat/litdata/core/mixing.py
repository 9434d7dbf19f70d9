"""LitData's `CombinedStreamingDataset` and `ParallelStreamingDataset`."""

import inspect
import math
import random
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch

from blixt.compat.litdata.core.base import StreamingBase
from blixt.compat.litdata.core.dataset import StreamingDataset
from blixt.compat.litdata.core.over import OneByOne, Over
from blixt.data import Mix, Zip
from blixt.data.rows import RowOrder


class Served(OneByOne, Over):
    """A streaming dataset's rows as its users see them: converted and transformed."""

    def __init__(self, dataset: StreamingDataset) -> None:
        self.dataset = dataset
        super().__init__(dataset.rows)

    def items(self, rows: Any) -> list[Any]:
        """Return rows one by one."""
        return self.dataset.served(rows)


def _served(datasets: Sequence[Any]) -> list[Served]:
    if any(not isinstance(dataset, StreamingDataset) for dataset in datasets):
        raise RuntimeError("The provided datasets should be instances of the StreamingDataset.")
    return [Served(dataset) for dataset in datasets]


class CombinedStreamingDataset(StreamingBase):
    """Samples of several datasets, by weight.

    With `iterate_over_all` (the default) every sample of each dataset comes once; without, an epoch ends
    where the first dataset has no more, and there is no length. With `batching_method="per_stream"` each
    batch is of one dataset. Shares hold exactly instead of on average.

    Raises:
        ValueError: for weights together with `iterate_over_all`, or another batching method.
        RuntimeError: when something else than a `StreamingDataset` is given.
    """

    def __init__(
        self,
        datasets: list[StreamingDataset],
        seed: int = 42,
        weights: Sequence[float] | None = None,
        iterate_over_all: bool = True,
        batching_method: Literal["stratified", "per_stream"] = "stratified",
        force_override_state_dict: bool = False,
    ) -> None:
        if iterate_over_all and weights:
            raise ValueError(
                "When `iterate_over_all` is set to True, the weights argument shouldn't be provided. It will "
                "be computed from the lengths of the datasets."
            )
        if batching_method not in ("stratified", "per_stream"):
            raise ValueError(f"batching_method must be 'stratified' or 'per_stream', got {batching_method!r}")
        del force_override_state_dict
        self.datasets = datasets
        kept = [k for k in range(len(datasets)) if weights is None or weights[k] > 0]
        self._parts = [part for k, part in enumerate(_served(datasets)) if k in kept]
        self._seed, self._weights = seed, None if weights is None else [weights[k] for k in kept]
        self._iterate_over_all, self._batching_method = iterate_over_all, batching_method
        super().__init__(self._mixed(1), None)

    def _mixed(self, group: int) -> Mix:
        return Mix(
            self._parts,
            weights=self._weights,
            stop="once" if self._iterate_over_all else "first",
            group=group,
            seed=self._seed,
        )

    def set_batch_size(self, batch_size: Any) -> None:
        """Hear how many samples make a batch; one number for all datasets."""
        if not isinstance(batch_size, int):
            if len(set(batch_size)) != 1:
                raise ValueError("blixt.compat.litdata takes one batch size for all datasets of a mix")
            batch_size = batch_size[0]
        super().set_batch_size(batch_size)
        if self._batching_method == "per_stream":
            self.rows = self._mixed(batch_size)

    def set_epoch(self, current_epoch: int) -> None:
        """Choose the epoch that the next iteration reads; the datasets hear of it."""
        super().set_epoch(current_epoch)
        for dataset in self.datasets:
            dataset.set_epoch(current_epoch)

    def set_shuffle(self, shuffle: bool) -> None:
        """Choose whether the datasets' epochs are shuffled."""
        for part in self._parts:
            part.shuffle = part.dataset.rows.shuffle = shuffle

    def set_drop_last(self, drop_last: bool) -> None:
        """Choose whether all ranks get the same number of samples."""
        super().set_drop_last(drop_last)

    def get_len(self, num_workers: int, batch_size: int) -> int | None:
        """Return how many samples this rank gets; None where the first dataset's end is the end."""
        count = super().get_len(num_workers, batch_size)
        return count if self._iterate_over_all else None


Rngs = dict[str, Any]


class ParallelStreamingDataset(StreamingBase):
    """Samples that are tuples, one of each dataset.

    Args:
        datasets: the datasets.
        length: samples in an epoch, for which the datasets go round; the shortest dataset when None; `inf`.
        force_override_state_dict: no meaning here.
        transform: `transform(samples)` or `transform(samples, rngs)`, with `rngs` a dict of `random`, `numpy`
            and `torch` generators that depend on the seed, the epoch and the sample's place alone.
        seed: of the generators.
        resume: with `length`: go on where the last epoch ended; else every epoch has the same samples.
        reset_rngs: generators are the same in every epoch that does not go on from the last one.

    Raises:
        ValueError: for another length, or a transform with other arguments.
        RuntimeError: when something else than a `StreamingDataset` is given.
    """

    def __init__(
        self,
        datasets: list[StreamingDataset],
        length: int | float | None = None,
        force_override_state_dict: bool = False,
        transform: Callable[..., Any] | None = None,
        seed: int = 42,
        resume: bool = True,
        reset_rngs: bool = False,
    ) -> None:
        del force_override_state_dict
        if length is not None and not isinstance(length, int) and length != math.inf:
            raise ValueError(f"`length` must be `None`, an integer, or `float('inf')`, got {length}.")
        self.datasets, self._length = datasets, length
        zipped = Zip(_served(datasets), length="shortest" if length is None else math.inf, seed=seed)
        rows = Cycle(zipped, _made(transform), seed, length, resume, reset_rngs)
        super().__init__(rows, None)

    def get_len(self, num_workers: int, batch_size: int) -> int | None:
        """Return how many samples this rank gets; None without end."""
        count = super().get_len(num_workers, batch_size)
        return None if self._length == math.inf else count

    def is_cycling(self) -> bool:
        """Whether an epoch has a length of its own, for which the datasets go round."""
        return self._length is not None

    def is_infinite(self) -> bool:
        """Whether an epoch has no end."""
        return self._length == math.inf


class Cycle(OneByOne):
    """A zip that goes on where the last epoch ended, or is the same in every epoch."""

    def __init__(
        self, zipped: Zip, transform: "Made | None", seed: int, length: Any, resume: bool, reset_rngs: bool
    ) -> None:
        self.zipped, self._make = zipped, transform
        self._goes_on, self._repeats = length is not None and resume, length is not None and not resume
        self._reset = reset_rngs and not self._goes_on
        super().__init__(
            rows=len(zipped) if length is None or length == math.inf else int(length),
            row_bytes=zipped.row_bytes,
            identity=zipped.identity,
            shuffle=False,
            seed=seed,
            window=1,
            rank=None,
            world_size=None,
        )

    def items(self, rows: Any) -> list[Any]:
        """Return rows one by one; a row number is `epoch * length + t`."""
        epochs, places = np.divmod(rows, len(self))
        samples = self.zipped.items(self._in_zip(epochs, places))
        if self._make is None:
            return samples
        keys = zip(epochs.tolist(), places.tolist(), strict=True)
        return [
            self._make(sample, (self.seed, 0 if self._reset else epoch, place))
            for sample, (epoch, place) in zip(samples, keys, strict=True)
        ]

    def _in_zip(self, epochs: Any, places: Any) -> Any:
        if self._repeats:
            return places
        return (epochs - 1) * len(self) + places if self._goes_on else epochs * len(self.zipped) + places

    @property
    def is_ordered(self) -> bool:
        """Always: a row number names its epoch."""
        return True

    def _make_order(self, epoch: int) -> RowOrder:
        return _From(epoch * len(self))

    def settings(self) -> dict[str, Any]:
        """What names the order, and those of the datasets."""
        return {**super().settings(), "zip": self.zipped.settings()}


class _From:
    def __init__(self, first: int) -> None:
        self._first = first

    def at(self, positions: Any, /) -> Any:
        """Return the rows at these positions."""
        return positions + self._first


class Made:
    """A transform with the arguments it takes."""

    def __init__(self, transform: Callable[..., Any], arguments: int) -> None:
        self._transform, self._arguments = transform, arguments

    def __call__(self, sample: tuple[Any, ...], key: tuple[int, int, int]) -> Any:
        """Call the function, with generators for the key where it takes them."""
        return self._transform(sample) if self._arguments == 1 else self._transform(sample, generators(key))


def generators(key: tuple[int, ...]) -> Rngs:
    """Return the random generators of one sample."""
    first, second, third = np.random.SeedSequence(key).generate_state(3, np.uint64).tolist()
    return {
        "random": random.Random(first),
        "numpy": np.random.default_rng(second),
        "torch": torch.Generator().manual_seed(third % 2**63),
    }


def _made(transform: Callable[..., Any] | None) -> Made | None:
    if transform is None:
        return None
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    count = sum(parameter.kind in kinds for parameter in inspect.signature(transform).parameters.values())
    if count not in (1, 2):
        raise ValueError(f"transform function must take 1 or 2 arguments, got {count} instead.")
    return Made(transform, count)
