"""Several loaders as one."""

from collections.abc import Iterable, Iterator
from math import inf
from typing import Any, Self, cast

from blixt.fabric import ConfigError
from blixt.trainer.combined_modes import Course, Mode, Triplet, draw, length
from blixt.trainer.combined_tree import flatten

MODES: tuple[Mode, ...] = ("min_size", "max_size_cycle", "max_size", "sequential")


class CombinedLoader(Iterable[Triplet]):
    """Draws from several loaders, in one of four modes; works in every stage of a Trainer, and by itself.

    Iterating gives `(batch, batch_idx, dataloader_idx)`. The batch is arranged as the loaders are: a dict of
    loaders gives dicts of batches. In "sequential" mode it is one loader's batch, and both indices are that
    loader's.

    Args:
        iterables: One loader, or a nested list, tuple or dict of them; anything to iterate over.
        mode: "min_size" ends with the shortest; "max_size" with the longest, giving None for those that
            ended before; "max_size_cycle" with the longest, beginning the others again; "sequential" runs
            one after the other.

    Example:
        >>> combined = CombinedLoader({"a": [1, 2, 3], "b": [10, 20]}, "max_size")
        >>> [batch for batch, batch_idx, dataloader_idx in combined]
        [{'a': 1, 'b': 10}, {'a': 2, 'b': 20}, {'a': 3, 'b': None}]
    """

    def __init__(self, iterables: Any, mode: Mode = "min_size") -> None:
        if mode not in MODES:
            raise ConfigError("CombinedLoader(mode)", mode, "it is unknown", f"Use one of {', '.join(MODES)}")
        self.mode: Mode = mode
        self._iterables = iterables
        self._flattened, self._rebuild = flatten(iterables)
        self._limits: list[float] | None = None
        self._iterator: Iterator[Triplet] | None = None

    @property
    def iterables(self) -> Any:
        """The loaders, arranged as they were given."""
        return self._iterables

    @property
    def flattened(self) -> list[Any]:
        """The loaders as a flat list; assign as many others to replace them."""
        return self._flattened

    @flattened.setter
    def flattened(self, loaders: list[Any]) -> None:
        if len(loaders) != len(self._flattened):
            reason = f"there are {len(self._flattened)} loaders to replace"
            raise ConfigError("CombinedLoader(flattened)", len(loaders), reason, "Give as many")
        self._flattened = list(loaders)
        self._iterables = self._rebuild(self._flattened)

    @property
    def limits(self) -> list[float] | None:
        """Batches to take of each loader at most; assign one number for all, or one each."""
        return self._limits

    @limits.setter
    def limits(self, limits: float | list[float] | None) -> None:
        count = len(self._flattened)
        each = [float(limits)] * count if isinstance(limits, (int, float)) else limits
        if each is not None and len(each) != count:
            raise ConfigError(
                "CombinedLoader(limits)", limits, f"there are {count} loaders", "Give one limit each"
            )
        self._limits = each

    @property
    def sampler(self) -> Any:
        """The loaders' samplers, arranged as the loaders are; None where there is none."""
        return self._rebuild([getattr(loader, "sampler", None) for loader in self._flattened])

    @property
    def batch_sampler(self) -> Any:
        """The loaders' batch samplers, arranged as the loaders are; None where there is none."""
        return self._rebuild([getattr(loader, "batch_sampler", None) for loader in self._flattened])

    def arrange(self, batches: list[Any]) -> Any:
        """One value a loader, arranged as the loaders are."""
        return self._rebuild(batches)

    def __iter__(self) -> Self:
        limits = self._limits or [inf] * len(self._flattened)
        course = Course.begin(len(self._flattened))
        self._iterator = draw(self.mode, lambda index: iter(self._flattened[index]), limits, course)
        return self

    def __next__(self) -> Triplet:
        if self._iterator is None:
            iter(self)
        batches, index, loader = next(cast("Iterator[Triplet]", self._iterator))
        return (batches if self.mode == "sequential" else self._rebuild(batches)), index, loader

    def __len__(self) -> int:
        """Number of batches; TypeError when a loader that matters does not know its own."""
        lengths = [length_of(loader) for loader in self._flattened]
        known = [inf if each is None else each for each in lengths]
        limits = self._limits or [inf] * len(known)
        total = length(self.mode, [min(pair) for pair in zip(known, limits, strict=True)])
        if total == inf:
            raise TypeError("A CombinedLoader has no length when a loader in it has none.")
        return int(total)

    def reset(self) -> None:
        """Forget the running iteration, and end its workers."""
        if self._iterator is not None:
            cast("Any", self._iterator).close()
            self._iterator = None


def length_of(loader: Any) -> int | None:
    """`len(loader)`, or None where it is not known."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None
