"""What several tests of weights start from."""

from pathlib import Path

import pytest
import torch
from tests.llm.weights.gguf_sizes import BASE

from blixt.llm.config import ModelConfig
from blixt.llm.model import GPT
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import save_checkpoint


@pytest.fixture(scope="module")
def directory(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama with a tokenizer."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("llama")
    save_checkpoint(GPT(ModelConfig(**BASE | {"vocab": len(tokenizer)}, tie=False)), path)
    tokenizer.save(path)
    return path
