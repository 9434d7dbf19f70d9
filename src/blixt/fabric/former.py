"""What Fabric's forerunners had and Fabric has not: the sentence that says what replaced it."""

from typing import TYPE_CHECKING, Never

_FORMER = {"sharded_model": "Make the module under `fabric.init_module()`; `fabric.setup` shards it"}


class Former:
    """Answers for names that are gone; it is asked only for what Fabric does not have."""

    if not TYPE_CHECKING:  # a checker shall go on knowing which names there are

        def __getattr__(self, name: str) -> Never:
            """Raise, and say what to use for a name of old."""
            reason = f" {_FORMER[name]}." if name in _FORMER else ""
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}.{reason}", name=name, obj=self
            )
