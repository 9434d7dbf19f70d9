"""Limits of a server, checked once."""

import os
from dataclasses import dataclass

from blixt.serve.errors import ConfigError

_SWITCHES = ("running_timeout",)
_MAY_BE_OFF = ("max_requests", "max_memory_bytes", "min_bytes_per_s")


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound and deadline of a server.

    `timeout_s` is how long a client waits for progress: the whole answer, or the next piece of a stream;
    infinite means for ever. `kill_grace_s` is how long after that a running request may still end before its
    worker is killed; without `running_timeout` only requests that still wait can be late. A worker that has
    begun `max_requests` requests, or holds more than `max_memory_bytes`, is replaced once its successor is
    ready; 0 means never. A client has `receive_timeout_s` for a request's
    headers, may pause so long in a body, and must send it at `min_bytes_per_s` on the whole: it has
    `receive_timeout_s` and a second more for each so many bytes that have come; 0 is no such bound. Who is
    slower gets 408. A connection without a request lives `keep_alive_s`.
    `max_queue_bytes` bounds the bodies of an API that wait, and once more those that are still arriving.
    """

    timeout_s: float = 30.0
    kill_grace_s: float = 2.0
    max_queue: int = 1024
    max_queue_bytes: int = 512 * 2**20
    max_payload_bytes: int = 32 * 2**20
    drain_s: float = 30.0
    setup_timeout_s: float = 900.0
    max_setup_failures: int = 3
    backoff_s: float = 0.1
    max_backoff_s: float = 5.0
    stable_s: float = 30.0
    stop_s: float = 5.0
    keep_alive_s: float = 5.0
    receive_timeout_s: float = 20.0
    min_bytes_per_s: float = 1024.0
    max_header_bytes: int = 64 * 2**10
    running_timeout: bool = True
    max_requests: int = 0
    max_memory_bytes: int = 0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if name in _SWITCHES and isinstance(value, bool):
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not (value > 0 or (value == 0 and name in _MAY_BE_OFF)):
                raise ConfigError(f"{name}={value!r} is not a positive number.")


def api_key_of(argument: str | None) -> str | None:
    """The key that guards the server: the argument, else `BLIXT_SERVE_API_KEY`, else none."""
    key = argument if argument is not None else os.environ.get("BLIXT_SERVE_API_KEY") or None
    if key == "":
        raise ConfigError("api_key is empty: leave it out for an open server, or set a real key.")
    return key
