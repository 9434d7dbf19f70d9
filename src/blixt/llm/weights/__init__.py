"""A model's tensors on disk: read without a copy, written whole or not at all, converted, described, checked.

`rules` says how names and layouts on disk become the model's; `read` and `save` apply it to safetensors,
`gguf` to llama.cpp's files. The names load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blixt.llm.weights.find import open_source
    from blixt.llm.weights.read import load_checkpoint, load_weights, read_config, read_hf_config, writable
    from blixt.llm.weights.save import save_checkpoint, save_weights

_FILE_OF = {
    "load_checkpoint": "read",
    "load_weights": "read",
    "open_source": "find",
    "read_config": "read",
    "read_hf_config": "read",
    "save_checkpoint": "save",
    "save_weights": "save",
    "writable": "read",
}

__all__ = [
    "load_checkpoint",
    "load_weights",
    "open_source",
    "read_config",
    "read_hf_config",
    "save_checkpoint",
    "save_weights",
    "writable",
]


def __getattr__(name: str) -> object:
    file = _FILE_OF.get(name)
    if file is None:
        raise AttributeError(f"module 'blixt.llm.weights' has no attribute {name!r}")
    value = getattr(import_module(f"blixt.llm.weights.{file}"), name)
    globals()[name] = value
    return value
