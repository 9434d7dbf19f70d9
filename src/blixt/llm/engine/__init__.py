"""The engine: many requests generate at once over a paged cache.

`Engine` takes requests and gives updates, step by step. Underneath, `scheduler` decides who computes what
over `blocks`, `runner` computes it in one flat batch over `paged` attention, `sampler` draws. The names load
on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blixt.llm.engine.adapters import AdapterSet
    from blixt.llm.engine.engine import Engine
    from blixt.llm.engine.engine_config import EngineConfig
    from blixt.llm.engine.grammar import Format
    from blixt.llm.engine.metrics import Stats
    from blixt.llm.engine.request import TokenLogprob, Update
    from blixt.llm.engine.speculative import NgramProposer, SpeculationStats
    from blixt.llm.engine.speculative_draft import DraftProposer

_FILE_OF = {
    "AdapterSet": "adapters",
    "DraftProposer": "speculative_draft",
    "Engine": "engine",
    "EngineConfig": "engine_config",
    "Format": "grammar",
    "NgramProposer": "speculative",
    "SpeculationStats": "speculative",
    "Stats": "metrics",
    "TokenLogprob": "request",
    "Update": "request",
}

__all__ = [
    "AdapterSet",
    "DraftProposer",
    "Engine",
    "EngineConfig",
    "Format",
    "NgramProposer",
    "SpeculationStats",
    "Stats",
    "TokenLogprob",
    "Update",
]


def __getattr__(name: str) -> object:
    file = _FILE_OF.get(name)
    if file is None:
        raise AttributeError(f"module 'blixt.llm.engine' has no attribute {name!r}")
    value = getattr(import_module(f"blixt.llm.engine.{file}"), name)
    globals()[name] = value
    return value
