"""Which lengths share a block: best fit, longest first. A pure function of the lengths."""

from bisect import bisect_left, insort
from collections.abc import Sequence

from blixt.llm.errors import LLMError


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Put items into as few bins as the best-fit-decreasing heuristic finds (at most 11/9 of the optimum).

    Longest first, each into the fullest bin that still holds it; equal lengths keep their order, so the
    result is the same on every machine.

    Args:
        lengths: Of each item, from 0 to `capacity`.
        capacity: Of a bin.

    Returns:
        The items' numbers, bin by bin; every item is in exactly one.

    Raises:
        LLMError: An item is longer than a bin.

    Example:
        >>> best_fit([2, 5, 3, 1, 4], capacity=5)
        [[1], [4, 3], [2, 0]]
    """
    bins: list[list[int]] = []
    rooms: list[int] = []  # sizes of room left for which there is a bin, ascending
    with_room: dict[int, list[int]] = {}
    for item in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[item]
        if not 0 <= length <= capacity:
            raise LLMError(f"item {item} has length {length}, which a block of {capacity} cannot hold")
        place = bisect_left(rooms, length)
        if place == len(rooms):
            number, room = len(bins), capacity
            bins.append([])
        else:
            room = rooms[place]
            number = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[place]
        bins[number].append(item)
        left = room - length
        if left not in with_room:
            with_room[left] = []
            insort(rooms, left)
        with_room[left].append(number)
    return bins
