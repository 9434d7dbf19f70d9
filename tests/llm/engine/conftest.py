"""An `LLM` of the small decisive model of the room's tests."""

import pytest

from blixt.llm.api import LLM
from blixt.llm.model import GPT
from blixt.llm.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def llm(model: GPT, tokenizer: Tokenizer) -> LLM:
    return LLM(model, tokenizer)
