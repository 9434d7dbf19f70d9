"""The further arguments of `LitServer.run`: uvicorn's settings, and what each comes to on blixt's fronts."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from blixt.serve.errors import ConfigError
from blixt.serve.uvicorn_options import ELSEWHERE, IMPOSSIBLE, OURS, PASSED, check

FILES = ("ssl_certfile", "ssl_keyfile", "ssl_keyfile_password", "uds")
LIMITS = {"timeout_keep_alive": "keep_alive_s", "h11_max_incomplete_event_size": "max_header_bytes"}
COLD = frozenset({"access_log", "forwarded_allow_ips", "proxy_headers", "ws_max_size"})
"""Uvicorn sees to them itself: every route of a LitServer goes through its app."""
LEAST_KEEP_ALIVE_S = 0.1
REASONS = {
    "limit_max_requests": "the server does not end after so many requests",
    "reload": "run the file with `blixt serve FILE --reload`",
    "timeout_graceful_shutdown": "LitServe's `run` does not take it either",
    "workers": "write num_api_servers=...",
}


@dataclass
class RunOptions:
    """What `LitServer.run` was given, sorted.

    Attributes:
        run: Arguments of `blixt.serve.Server.run`.
        uvicorn: Settings that go to uvicorn.
        limits: Fields of `blixt.serve.Limits`.
        root_path: The prefix under which a proxy shows the server.
    """

    run: dict[str, Any] = field(default_factory=dict[str, Any])
    uvicorn: dict[str, Any] = field(default_factory=lambda: {"proxy_headers": True})
    limits: dict[str, float] = field(default_factory=dict[str, float])
    root_path: str = ""


def options_of(given: Mapping[str, Any]) -> RunOptions:
    """Sort uvicorn's settings; those that say what holds anyway are passed over.

    Raises:
        TypeError: Uvicorn has no such setting, or it cannot be obeyed here.
        ValueError: A value cannot be.
    """
    usual, options = _defaults(), RunOptions()
    for name, value in given.items():
        if name in FILES:
            options.run[name] = None if value is None else str(value)
        elif name not in usual:
            raise TypeError(f"LitServer.run() got an unexpected keyword argument {name!r}")
        elif name not in COLD and value == usual[name]:
            continue
        elif name in LIMITS:
            options.limits[LIMITS[name]] = max(value, LEAST_KEEP_ALIVE_S)
        elif name in PASSED | OURS | COLD:
            options.uvicorn[name] = value
        elif name == "root_path":
            options.root_path = value.rstrip("/")
        elif name == "fd":
            options.run["sock"] = socket.socket(fileno=value)
        elif name == "env_file":
            _load_environment(value)
        else:
            raise TypeError(f"LitServer.run() cannot obey {name}={value!r}: {_reason(name)}.")
    try:
        check(options.uvicorn, COLD)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return options


def _defaults() -> dict[str, Any]:
    import inspect

    import uvicorn

    parameters = inspect.signature(uvicorn.Config).parameters.values()
    return {one.name: one.default for one in parameters if one.name not in ("app", "host", "port")}


def _reason(name: str) -> str:
    return REASONS.get(name) or IMPOSSIBLE.get(name) or f"write {ELSEWHERE[name]}"


def _load_environment(path: Any) -> None:
    """What uvicorn does with it, before any process is started."""
    try:
        from dotenv import load_dotenv
    except ImportError:
        raise ValueError(f"env_file={str(path)!r} needs python-dotenv: pip install python-dotenv.") from None
    load_dotenv(dotenv_path=path)
