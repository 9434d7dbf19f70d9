from collections.abc import Iterator

import openai
import pytest

from blixt.serve import Limits, OpenAIEmbeddingSpec, OpenAISpec, Server
from blixt.serve.http.web import Web
from blixt.serve.testing import RunningServer, running

from .apis import (
    Big,
    Chat,
    Count,
    Embedder,
    Guarded,
    Locate,
    Peeker,
    Picture,
    Rot13,
    Shouter,
    Slow,
    Talker,
    Tick,
)
from .stamps import add_hello


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def openai_service() -> Iterator[RunningServer]:
    """Three models of OpenAI's kinds on one server."""
    apis = [
        Talker(spec=OpenAISpec("talker")),
        Shouter(spec=OpenAISpec("shouter", max_tokens=3)),
        Embedder(spec=OpenAIEmbeddingSpec("lengths"), max_batch_size=8),
    ]
    with running(Server(apis, accelerator="cpu", timeout_s=60)) as service:
        yield service


@pytest.fixture(scope="session")
def client(openai_service: RunningServer) -> Iterator[openai.OpenAI]:
    base_url = f"{openai_service.url}/v1"
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def web_service() -> Iterator[RunningServer]:
    """Every other kind of route, with a short keep-alive."""
    apis = [Count(), Big(), Slow(), Guarded(), Peeker(), Chat(), Tick(), Locate(), Rot13(), Picture()]
    web = Web(keep_alive_s=0.3, mcp=True, metadata={"name": "tests"}, extend=add_hello)
    limits = Limits(max_payload_bytes=100_000)
    with running(Server(apis, accelerator="cpu", timeout_s=60, limits=limits, web=web)) as service:
        yield service
