"""In which order batches are drawn from several loaders."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Mode = Literal["min_size", "max_size", "max_size_cycle", "sequential"]
Open = Callable[[int], Iterator[Any]]
Triplet = tuple[Any, int, int]
"""A batch (a list of one a loader, except in "sequential"), its index, and the index of its loader."""


@dataclass
class Course:
    """How far an iteration over several loaders has come.

    Attributes:
        index: Batches given; in "sequential", of the current loader.
        current: The loader that "sequential" is at.
        rounds: How often "max_size_cycle" has begun each loader again.
        ended: Which loaders have been exhausted.
    """

    index: int = 0
    current: int = 0
    rounds: list[int] = field(default_factory=list[int])
    ended: list[bool] = field(default_factory=list[bool])

    def state_dict(self) -> dict[str, Any]:
        """As plain values, apart from this."""
        return {**vars(self), "rounds": list(self.rounds), "ended": list(self.ended)}

    @classmethod
    def begin(cls, count: int) -> "Course":
        """At the beginning of `count` loaders."""
        return cls(rounds=[0] * count, ended=[False] * count)


def draw(mode: Mode, open_loader: Open, limits: Sequence[float], course: Course) -> Iterator[Triplet]:
    """Draw from loaders in `mode`, from where `course` is.

    Args:
        mode: "min_size" ends with the shortest loader; "max_size" with the longest, and gives None for those
            that ended before; "max_size_cycle" begins those again; "sequential" runs one after the other.
        open_loader: Gives an iterator of the loader of that index; asked again for each round.
        limits: Batches of each loader that "sequential" takes at most.
        course: Where to begin; kept up to date.
    """
    if mode == "sequential":
        return _sequential(open_loader, limits, course)
    return {"min_size": _min_size, "max_size": _max_size, "max_size_cycle": _cycle}[mode](open_loader, course)


def length(mode: Mode, lengths: Sequence[float]) -> float:
    """Batches that `draw` gives for loaders with these lengths (infinite where unknown)."""
    if not lengths:
        return 0
    return {"min_size": min, "max_size": max, "max_size_cycle": max, "sequential": sum}[mode](lengths)


def _min_size(open_loader: Open, course: Course) -> Iterator[Triplet]:
    iterators = [open_loader(index) for index in range(len(course.ended))]
    while iterators:
        batches: list[Any] = []
        for iterator in iterators:
            try:
                batches.append(next(iterator))
            except StopIteration:
                return
        course.index += 1
        yield batches, course.index - 1, 0


def _max_size(open_loader: Open, course: Course) -> Iterator[Triplet]:
    iterators = [None if over else open_loader(index) for index, over in enumerate(course.ended)]
    while True:
        batches: list[Any] = [None] * len(iterators)
        for index, iterator in enumerate(iterators):
            if iterator is None:
                continue
            try:
                batches[index] = next(iterator)
            except StopIteration:
                course.ended[index], iterators[index] = True, None
        if all(course.ended):
            return
        course.index += 1
        yield batches, course.index - 1, 0


def _cycle(open_loader: Open, course: Course) -> Iterator[Triplet]:
    iterators = [open_loader(index) for index in range(len(course.ended))]
    while iterators:
        batches: list[Any] = []
        for index in range(len(iterators)):
            try:
                batches.append(next(iterators[index]))
            except StopIteration:
                course.ended[index] = True
                if all(course.ended):
                    return
                course.rounds[index] += 1
                iterators[index] = open_loader(index)
                try:
                    batches.append(next(iterators[index]))
                except StopIteration:
                    return  # a loader without any batch can fill no round
        course.index += 1
        yield batches, course.index - 1, 0


def _sequential(open_loader: Open, limits: Sequence[float], course: Course) -> Iterator[Triplet]:
    while course.current < len(course.ended):
        if course.index < limits[course.current]:
            for batch in open_loader(course.current):
                course.index += 1
                yield batch, course.index - 1, course.current
                if course.index >= limits[course.current]:
                    break
        course.current += 1
        course.index = 0
