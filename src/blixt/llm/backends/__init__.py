"""Other engines behind the interface of ours, where they are installed: llama.cpp for GGUF, vLLM on GPUs.

`load_backend("llama.cpp", "model.gguf")` gives an `LLM` that generates, chats, streams and serves like any.
"""

from pathlib import Path
from typing import Any

from blixt.llm.backends.base import ForeignEngine, ForeignLLM
from blixt.llm.errors import BackendError

__all__ = ["ForeignEngine", "ForeignLLM", "load_backend"]


def load_backend(name: str, path: str | Path, **settings: Any) -> ForeignLLM:
    """An `LLM` on another engine.

    Args:
        name: "llama.cpp" or "vllm".
        path: A GGUF file for llama.cpp; a checkpoint directory for vLLM.
        **settings: Of `LlamaCppEngine` or `VLLMEngine`.

    Raises:
        BackendError: There is no such backend, its package is not installed, or it cannot load the model.
    """
    kinds = {"llama.cpp": "a GGUF file", "vllm": "a checkpoint directory"}
    if name in kinds and not Path(path).exists():
        raise BackendError(f"{path} does not exist: the {name} backend loads {kinds[name]}")
    if name == "llama.cpp":
        from blixt.llm.backends.llama_cpp import load_llama_cpp

        return load_llama_cpp(path, **settings)
    if name == "vllm":
        from blixt.llm.backends.vllm import load_vllm

        return load_vllm(path, **settings)
    raise BackendError(f"there is no backend {name!r}: choose llama.cpp or vllm")
