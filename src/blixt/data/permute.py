"""Keyed random permutations that are computed, not stored: index in, index out, and back.

A Feistel network on the smallest grid that holds the range, walked until the value falls inside it (cycle
walking), so it is one to one for any size. Halves are 32-bit words where they can be: numpy multiplies
several at a time.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Int = npt.NDArray[np.int64]
Words = npt.NDArray[Any]

_ROUNDS = 3
_ODD = (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F, 0x165667B1, 0xD3A2646D)
"""One odd multiplier for each half round."""
_LAST = 0x7FEB352D


def permute(index: Int, size: Any, key: Any) -> Int:
    """Return where a random permutation of `[0, size)` puts the given indices.

    Args:
        index: the indices, each in `[0, size)`.
        size: one size, or an array that gives each index its own.
        key: names the permutation; one number, or an array that gives each index its own.

    Example:
        >>> sorted(permute(np.arange(5), 5, key=1).tolist())
        [0, 1, 2, 3, 4]
    """
    return _each_size(index, size, key, _feistel)


def unpermute(index: Int, size: Any, key: Any) -> Int:
    """Return which indices `permute` puts at the given places: its inverse."""
    return _each_size(index, size, key, _feistel_back)


def mix(value: Any, key: Any) -> Any:
    """Hash two 64-bit numbers into one (the finaliser of splitmix64)."""
    with np.errstate(over="ignore"):
        state = np.asarray(value, np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.asarray(key, np.uint64)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))


def mix_numbers(*numbers: int) -> int:
    """Hash whole numbers of any size into one 64-bit key."""
    state = 0
    for number in numbers:
        state = int(mix(np.uint64(number % 2**64), np.uint64((state + 1) % 2**64)))
    return state


def _each_size(index: Int, size: Any, key: Any, network: Any) -> Int:
    """Walk the indices of each size together; within a run of an epoch there are only a few sizes."""
    keys = np.asarray(key, np.uint64)
    sizes = np.asarray(size, np.int64)
    if sizes.ndim == 0:
        return _walk(index, int(sizes), keys, network)
    if not len(index):
        return index.astype(np.int64)
    if (sizes == sizes[0]).all():
        return _walk(index, int(sizes[0]), keys, network)
    result = np.empty(len(index), np.int64)
    for each in sorted(set(sizes.tolist())):
        here = np.flatnonzero(sizes == each)
        result[here] = _walk(index[here], each, keys if keys.ndim == 0 else keys[here], network)
    return result


def _walk(index: Int, size: int, keys: Any, network: Any) -> Int:
    sides = _Sides(size)
    halves = _half_keys(keys, sides.dtype)
    result = network(index, sides, halves)
    outside = np.flatnonzero(result >= size)
    while len(outside):
        some = halves if keys.ndim == 0 else (halves[0][outside], halves[1][outside])
        result[outside] = network(result[outside], sides, some)
        outside = outside[result[outside] >= size]
    return result


class _Sides:
    """A grid `high x low` that holds the range with at most one row to spare, so that walks are rare."""

    def __init__(self, size: int) -> None:
        high = math.isqrt(max(size, 2) - 1) + 1
        self.low = max(-(-size // high), 2)
        wide = high > 1 << 16
        self.dtype: type[np.uint32] | type[np.uint64] = np.uint64 if wide else np.uint32
        self.half_word = self.dtype(32 if wide else 16)
        self.sizes = self.dtype(high), self.dtype(self.low)

    def split(self, index: Int) -> tuple[Words, Words]:
        high = index // self.low
        return high.astype(self.dtype), (index - high * self.low).astype(self.dtype)

    def join(self, high: Words, low: Words) -> Int:
        return high.astype(np.int64) * self.low + low.astype(np.int64)

    def scramble(self, words: Words, key: Any, number: int, side: int) -> Words:
        """Hash the words into `[0, sizes[side])`; in place in one new array."""
        state = words ^ key
        state *= self.dtype(_ODD[number])
        state ^= state >> self.half_word
        state *= self.dtype(_LAST)
        state >>= self.half_word
        state *= self.sizes[side]
        state >>= self.half_word
        return state


def _half_keys(keys: Any, dtype: Any) -> tuple[Any, Any]:
    return keys.astype(dtype), (keys >> np.uint64(32)).astype(dtype)


def _feistel(index: Int, sides: _Sides, keys: tuple[Any, Any]) -> Int:
    high, low = sides.split(index)
    for number in range(_ROUNDS):
        high += sides.scramble(low, keys[0], 2 * number, 0)
        np.minimum(high, high - sides.sizes[0], out=high)  # modulo: below zero wraps to a large number
        low += sides.scramble(high, keys[1], 2 * number + 1, 1)
        np.minimum(low, low - sides.sizes[1], out=low)
    return sides.join(high, low)


def _feistel_back(index: Int, sides: _Sides, keys: tuple[Any, Any]) -> Int:
    high, low = sides.split(index)
    for number in reversed(range(_ROUNDS)):
        low -= sides.scramble(high, keys[1], 2 * number + 1, 1)
        np.minimum(low, low + sides.sizes[1], out=low)
        high -= sides.scramble(low, keys[0], 2 * number, 0)
        np.minimum(high, high + sides.sizes[0], out=high)
    return sides.join(high, low)
