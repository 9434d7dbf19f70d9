from collections.abc import AsyncIterator

import pytest

from .rig import Rig, rigged


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The server runs on uvloop, embedders may run on plain asyncio: both must do."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with rigged() as rig:
        yield rig
