"""The engine: many requests generate at once over a paged cache.

`Engine` takes requests and gives updates, step by step. Underneath, `scheduler` decides who computes what
over `blocks`, `runner` computes it in one flat batch over `paged` attention, `sampler` draws. The names load
on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blixt.llm.engine.engine import Engine
    from blixt.llm.engine.engine_config import EngineConfig
    from blixt.llm.engine.metrics import Stats
    from blixt.llm.engine.request import TokenLogprob, Update

_FILE_OF = {
    "Engine": "engine",
    "EngineConfig": "engine_config",
    "Stats": "metrics",
    "TokenLogprob": "request",
    "Update": "request",
}

__all__ = ["Engine", "EngineConfig", "Stats", "TokenLogprob", "Update"]


def __getattr__(name: str) -> object:
    file = _FILE_OF.get(name)
    if file is None:
        raise AttributeError(f"module 'blixt.llm.engine' has no attribute {name!r}")
    value = getattr(import_module(f"blixt.llm.engine.{file}"), name)
    globals()[name] = value
    return value
