"""Who waits for a worker: by priority, then by age. No verb gets slower when many wait."""

from bisect import insort
from collections import OrderedDict
from collections.abc import Iterator

from blixt.serve.request import Request


class Queue:
    """Waiting requests of one API."""

    __slots__ = ("_levels", "_ranks", "count", "size_bytes")

    def __init__(self) -> None:
        self._levels: dict[int, OrderedDict[int, Request]] = {0: OrderedDict()}
        self._ranks = [0]  # negated priorities, ascending: the first level that holds someone is served
        self.count = 0
        self.size_bytes = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Request]:
        """In the order in which they will be taken."""
        for rank in self._ranks:
            yield from self._levels[rank].values()

    def push(self, request: Request, *, first: bool = False) -> None:
        """Add a request behind its equals, or `first`, before them: it had its turn already."""
        rank = -request.priority
        level = self._levels.get(rank)
        if level is None:
            level = self._levels[rank] = OrderedDict()
            insort(self._ranks, rank)
        level[request.id] = request
        if first:
            level.move_to_end(request.id, last=False)
        self.count += 1
        self.size_bytes += len(request.body)

    def pop(self) -> Request:
        """Take the next request.

        Raises:
            IndexError: Nobody waits.
        """
        for rank in self._ranks:
            level = self._levels[rank]
            if level:
                _, request = level.popitem(last=False)
                self.count -= 1
                self.size_bytes -= len(request.body)
                return request
        raise IndexError("the queue is empty")

    def discard(self, request: Request) -> None:
        """Forget a request, whether it waits here or not."""
        level = self._levels.get(-request.priority)
        if level is not None and level.pop(request.id, None) is not None:
            self.count -= 1
            self.size_bytes -= len(request.body)

    def oldest_at(self) -> float:
        """When the request that has waited longest was admitted; the queue must not be empty."""
        return min(next(iter(level.values())).admitted_at for level in self._levels.values() if level)
