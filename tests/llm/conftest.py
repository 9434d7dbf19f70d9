"""A tokenizer trained on real source code and a small model with decisive weights."""

import inspect
import json
import textwrap

import pytest
import torch

from blixt.llm.config import ModelConfig
from blixt.llm.model import GPT
from blixt.llm.tokenizer import Tokenizer


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)  # enough for models this small: more threads wait for each other


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([inspect.getsource(json), inspect.getsource(textwrap)], vocab_size=512)


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer) -> GPT:
    torch.manual_seed(0)
    config = ModelConfig(vocab=len(tokenizer), d=64, layers=2, heads=4, kv_heads=2, context=64, tie=False)
    model = GPT(config).eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)  # so that the likeliest token is likeliest by far
    return model
