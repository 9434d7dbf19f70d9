"""Served models: a small one with decisive weights and no template, and SmolLM2, a real chat model."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from tests.llm.smollm2 import smollm2_dir

from blixt.llm import GPT, ChatAPI, Tokenizer, save_checkpoint
from blixt.llm.server import ServeOptions
from blixt.serve import Server
from blixt.serve.testing import RunningServer, running


@pytest.fixture(scope="package", autouse=True)
def _one_thread_a_worker() -> Iterator[None]:
    """Workers share the machine with other tests; threads that wait for each other would crawl."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="package")
def checkpoint(model: GPT, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(model, folder)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="package")
def client(checkpoint: Path) -> Iterator[openai.OpenAI]:
    """A client of the small model, called "source"."""
    server = Server(ChatAPI(checkpoint, "source"), devices=1, accelerator="cpu")
    with running(server) as place:
        yield client_of(place)


@pytest.fixture(scope="package")
def smollm2() -> Iterator[RunningServer]:
    """SmolLM2, called "smollm2", at most four requests at once."""
    options = ServeOptions(max_batch=4, context=1024)
    server = Server(ChatAPI(smollm2_dir(), "smollm2", options), devices=1, accelerator="cpu", timeout_s=300)
    with running(server) as place:
        yield place


@pytest.fixture(scope="package")
def chatter(smollm2: RunningServer) -> openai.OpenAI:
    """A client of SmolLM2."""
    return client_of(smollm2)


def client_of(place: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{place.url}/v1", api_key="none", max_retries=0)
