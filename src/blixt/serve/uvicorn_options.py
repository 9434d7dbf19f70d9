"""Uvicorn's own settings: which may be given, which have another name here, and which cannot be.

`Server.run(uvicorn={...})` takes those that blixt has no argument for; both lanes obey them.
"""

from collections.abc import Collection, Mapping
from typing import Any

from blixt.serve.errors import ConfigError

PASSED = frozenset(
    {
        "callback_notify",
        "date_header",
        "headers",
        "limit_concurrency",
        "log_config",
        "reset_contextvars",
        "server_header",
        "ssl_ca_certs",
        "ssl_cert_reqs",
        "ssl_ciphers",
        "ssl_context_factory",
        "ssl_version",
        "timeout_notify",
        "use_colors",
        "ws",
        "ws_max_queue",
        "ws_per_message_deflate",
        "ws_ping_interval",
        "ws_ping_timeout",
    }
)
"""Given to uvicorn as they are."""
OURS = frozenset({"backlog", "http", "loop"})
"""Acted on here."""
LOOPS = ("auto", "uvloop", "asyncio", "none")
ELSEWHERE = {
    "access_log": "Web(access_log=...)",
    "fd": "run(sock=socket.socket(fileno=...))",
    "forwarded_allow_ips": "Web(trusted_proxies=...)",
    "h11_max_incomplete_event_size": "Limits(max_header_bytes=...)",
    "host": "run(host=...)",
    "limit_max_requests": "Limits(max_requests=...), which replaces workers and not the server",
    "log_level": "run(log_level=...)",
    "port": "run(port=...)",
    "proxy_headers": "Web(trusted_proxies=...)",
    "reload": "`blixt serve FILE --reload`",
    "root_path": "Web(root_path=...)",
    "ssl_certfile": "run(ssl_certfile=...)",
    "ssl_keyfile": "run(ssl_keyfile=...)",
    "ssl_keyfile_password": "run(ssl_keyfile_password=...)",
    "timeout_graceful_shutdown": "Limits(drain_s=..., stop_s=...)",
    "timeout_keep_alive": "Limits(keep_alive_s=...)",
    "uds": "run(uds=...)",
    "workers": "Server(fronts=...) for HTTP, workers_per_device for models",
    "ws_max_size": "Limits(max_payload_bytes=...)",
}
"""What to write instead."""
IMPOSSIBLE = {
    "app": "the app is the server's own",
    "env_file": "the environment is set before the workers start: load the file before the server is made",
    "factory": "the app is the server's own",
    "http2": "both lanes speak HTTP/1.1; a proxy in front may speak HTTP/2",
    "interface": "the app is the server's own",
    "lifespan": "the workers live as long as the app's lifespan",
    "limit_max_requests_jitter": "the server does not end after so many requests",
    "reload_delay": "files are watched by `blixt serve FILE --reload`",
    "reload_dirs": "files are watched by `blixt serve FILE --reload`",
    "reload_excludes": "files are watched by `blixt serve FILE --reload`",
    "reload_includes": "files are watched by `blixt serve FILE --reload`",
    "timeout_worker_healthcheck": "fronts and workers are supervised by blixt, see Limits",
}
"""Why they cannot be given."""


def check(given: Mapping[str, Any], also: Collection[str] = ()) -> None:
    """See that settings can be obeyed.

    Args:
        given: Uvicorn's settings by name.
        also: More that uvicorn may get.

    Raises:
        ConfigError: One cannot, or nobody knows it.
    """
    for name, value in given.items():
        if name in also:
            continue
        if name in ELSEWHERE:
            raise ConfigError(f"uvicorn's {name} has another place here: write {ELSEWHERE[name]}.")
        if name in IMPOSSIBLE:
            raise ConfigError(f"uvicorn's {name} cannot be set: {IMPOSSIBLE[name]}.")
        if name not in PASSED | OURS:
            known = ", ".join(sorted(PASSED | OURS))
            raise ConfigError(f"uvicorn has no setting {name!r} that could be given; there are {known}.")
        if name == "loop" and value not in LOOPS:
            raise ConfigError(f"loop={value!r} is none of {', '.join(LOOPS)}.")
        if name == "http" and value not in ("auto", "httptools", "h11"):
            raise ConfigError(f"http={value!r} is none of auto, httptools, h11.")
        if name == "backlog" and not (isinstance(value, int) and value > 0):
            raise ConfigError(f"backlog={value!r} is no count of at least 1.")
        if name == "limit_concurrency" and not (isinstance(value, int) and value > 0):
            raise ConfigError(f"limit_concurrency={value!r} is no count of at least 1.")


def passed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those that uvicorn gets."""
    return {name: value for name, value in given.items() if name not in OURS}
