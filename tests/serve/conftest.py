from collections.abc import Iterator

import pytest

from blixt.serve import OpenAISpec, Server
from blixt.serve.testing import RunningServer, running

from .apis import Batched, Modelled, Parrot, Raw, Ticker, Tools, Typed


@pytest.fixture(scope="session")
def service() -> Iterator[RunningServer]:
    """One server with an API of every sort."""
    apis = [
        Tools(),
        Typed(),
        Modelled(),
        Raw(),
        Ticker(),
        Batched(max_batch_size=8),
        Parrot(spec=OpenAISpec("parrot")),
    ]
    with running(Server(apis, accelerator="cpu", timeout_s=60)) as service:
        yield service
