"""GGUF, llama.cpp's format: one file with a model's metadata, tokenizer and (mostly quantised) tensors.

`read` opens a file, `config` translates its metadata to a Hugging Face `config.json`, `names` holds the rules
between its tensors and ours, `write` makes one. The format is
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from pathlib import Path
from typing import Any

from blixt.llm.weights.gguf.header import parse_header
from blixt.llm.weights.mapped import MappedFile

__all__ = ["read_metadata"]


def read_metadata(path: str | Path) -> dict[str, Any]:
    """A GGUF file's metadata: `general.*`, `<architecture>.*` and `tokenizer.*`, without its tensors.

    Args:
        path: The file.

    Returns:
        Numbers, texts and lists of them, by key.

    Raises:
        WeightsError: It is missing, truncated or damaged.
    """
    path = Path(path)
    return parse_header(MappedFile(path).bytes, path).metadata
