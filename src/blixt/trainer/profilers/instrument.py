"""A profiler around what the loop calls; decided once, so that without a profiler nothing is added."""

from collections.abc import Callable, Generator, Iterable
from typing import Any

from blixt.trainer.profilers.base import Profiler


def timed(profiler: Profiler, action: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with `profiler` started before and stopped after each call, also one that raises."""

    def call(*args: Any, **kwargs: Any) -> Any:
        profiler.start(action)
        try:
            return function(*args, **kwargs)
        finally:
            profiler.stop(action)

    return call


def timed_items(profiler: Profiler, action: str, items: Iterable[Any]) -> Generator[Any]:
    """The same items, with the wait for each of them as an action."""
    iterator = iter(items)
    while True:
        with profiler.profile(action):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item
