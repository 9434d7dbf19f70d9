"""Where the time of a run goes: profilers that the Trainer starts and stops around what it does.

Without one nothing is measured: the hooks and steps are called as they are.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from blixt.trainer.profilers.base import PassThroughProfiler, Profiler
from blixt.trainer.profilers.instrument import timed

if TYPE_CHECKING:
    from blixt.trainer.profilers.advanced import AdvancedProfiler
    from blixt.trainer.profilers.pytorch import PyTorchProfiler
    from blixt.trainer.profilers.simple import SimpleProfiler

_FILE_OF = {"AdvancedProfiler": "advanced", "PyTorchProfiler": "pytorch", "SimpleProfiler": "simple"}
_NAMES = {"simple": "SimpleProfiler", "advanced": "AdvancedProfiler", "pytorch": "PyTorchProfiler"}

__all__ = [
    "AdvancedProfiler",
    "PassThroughProfiler",
    "Profiler",
    "PyTorchProfiler",
    "SimpleProfiler",
    "resolve_profiler",
    "timed",
]


def resolve_profiler(given: Any) -> Profiler | None:
    """The profiler that `Trainer(profiler=...)` means; None for none.

    Args:
        given: None, "simple", "advanced", "pytorch" or a `Profiler`.

    Raises:
        ConfigError: For anything else.
    """
    from blixt.fabric import ConfigError, nearest

    if given is None or isinstance(given, PassThroughProfiler):
        return None
    if isinstance(given, Profiler):
        return given
    if isinstance(given, str):
        name = _NAMES.get(given.lower())
        if name is not None:
            return __getattr__(name)()
        raise ConfigError("Trainer(profiler)", given, "it is unknown", nearest(given, _NAMES).rstrip("?"))
    raise ConfigError("Trainer(profiler)", given, "it is no Profiler", "Give a name or derive from Profiler")


def __getattr__(name: str) -> Any:
    file = _FILE_OF.get(name)
    if file is None:
        raise AttributeError(f"module 'blixt.trainer.profilers' has no attribute {name!r}")
    return getattr(import_module(f"blixt.trainer.profilers.{file}"), name)
