"""What every test shares: asyncio as anyio's backend, and a home folder that is not the user's."""

import inspect
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

# Two workers share two cores, and what they start inherits this: OpenMP's second thread would only spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where a test names no limit, httpx would give up after 5 s: too soon for a busy machine's worst moment.
_httpx_default: httpx.Timeout = inspect.signature(httpx.get).parameters["timeout"].default
_httpx_default.connect = _httpx_default.read = _httpx_default.write = _httpx_default.pool = 60.0

# How long an example takes, or making it up, says something of the machine only.
hypothesis_settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("any-machine")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_works() -> None:
    """Let Ctrl-C reach what tests start: a run in a shell's background inherits that it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _private_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep credentials, data folders and BLIXT_* variables of the person who runs the tests out of them."""
    home: Path = tmp_path_factory.mktemp("home")
    saved = dict(os.environ)
    for name in [n for n in os.environ if n.startswith("BLIXT_")]:
        del os.environ[name]
    os.environ.update(HOME=str(home), XDG_CONFIG_HOME=str(home / ".config"))
    yield
    os.environ.clear()
    os.environ.update(saved)
