"""What both clients are made with, checked once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from blixt.serve.client.retry import Retry
from blixt.serve.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Target:
    """A service: its address, and what every call carries."""

    base: str
    headers: dict[str, str]
    retry: Retry
    timeout_s: float
    uds: str | None

    def url(self, path: str) -> str:
        """The address of a route."""
        return f"{self.base}/{path.lstrip('/')}"

    @property
    def timeouts(self) -> httpx.Timeout:
        """Deadlines of httpx: `timeout_s` for each step, at most 10 s for the connection."""
        return httpx.Timeout(self.timeout_s, connect=min(self.timeout_s, 10.0))


def target(
    url: str,
    api_key: str | None,
    timeout_s: float,
    retry: Retry | int | None,
    headers: Mapping[str, str] | None,
    uds: str | None,
) -> Target:
    """Check and join a client's arguments.

    Raises:
        ConfigError: The URL is not http(s), or a number is out of range.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{url!r} is not the address of a service; give one like http://127.0.0.1:8000.")
    if timeout_s <= 0:
        raise ConfigError(f"timeout_s={timeout_s!r} is not a positive number.")
    key = api_key if api_key is not None else os.environ.get("BLIXT_SERVE_API_KEY")
    sent = {name.lower(): value for name, value in (headers or {}).items()}
    if key:
        sent.setdefault("authorization", f"Bearer {key}")
    policy = retry if isinstance(retry, Retry) else Retry() if retry is None else Retry(attempts=retry + 1)
    return Target(url.rstrip("/"), sent, policy, timeout_s, uds)
