"""Which routes the hot lane serves: decided once, at start, each decision with its reason."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version

from blixt.serve.errors import HTTPError
from blixt.serve.http.answers import ErrorBody
from blixt.serve.http.gate import Gate
from blixt.serve.http.lane import Lane
from blixt.serve.http.meta import META_HEADERS, PLAIN, Submission, read_meta
from blixt.serve.hub import Hub
from blixt.serve.metrics import ApiMetrics
from blixt.serve.service import LaneChoice, Running

CALLBACKS = {
    "on_message_begin": (),
    "on_url": ("url",),
    "on_header": ("name", "value"),
    "on_headers_complete": (),
    "on_body": ("body",),
    "on_message_complete": (),
    "on_response_complete": (),
    "connection_made": ("transport",),
    "connection_lost": ("exc",),
    "data_received": ("data",),
    "_start_asgi_task": ("cycle", "app"),
    "_should_upgrade": (),
    "_unsupported_upgrade_warning": (),
    "handle_websocket_upgrade": (),
}
JSON_TYPE = b"application/json"
_TELLING = META_HEADERS - {b"content-type"}
ATTRIBUTES = (
    "connections",
    "cycle",
    "flow",
    "headers",
    "limit_concurrency",
    "loop",
    "parser",
    "pipeline",
    "scope",
    "server_state",
    "transport",
)


@dataclass
class HotRoute:
    """An eligible route, with everything a request needs at hand. Lives as long as the API's workers."""

    gate: Gate
    error_body: ErrorBody
    path: str

    def __post_init__(self) -> None:
        self.max_payload_bytes = self.gate.max_payload_bytes
        self.plain_bytes = self.gate.compress_over_bytes  # an answer up to this size is never compressed

    @cached_property
    def running(self) -> Running:
        """The API at work."""
        return self.gate.find()

    @cached_property
    def hub(self) -> Hub:
        """Where requests go."""
        return self.running.pool.hub

    @cached_property
    def metrics(self) -> ApiMetrics:
        """Where answers are counted."""
        return self.running.metrics

    @cached_property
    def wants_headers(self) -> bool:
        """Whether the API's hooks look at a request's headers."""
        return self.running.plan.wants_headers

    @cached_property
    def stream(self) -> bool:
        """Whether an answer without a piece is an empty stream."""
        return self.hub.policy.stream

    def admit(
        self, headers: Sequence[tuple[bytes, bytes]], noted: Mapping[bytes, bytes], url: bytes
    ) -> Submission | None:
        """What the hub is told of a request besides its body; None if the cold lane must answer it.

        That one says what is wrong with a key, an announced size or a header, so it gets all of these.
        """
        if (
            b"" in noted
            or int(noted.get(b"content-length", b"0")) > self.max_payload_bytes
            or not self.gate.authorized(headers)
        ):
            return None
        kind = noted.get(b"content-type", JSON_TYPE)
        is_json = kind == JSON_TYPE or kind.startswith(JSON_TYPE)
        if is_json and not self.wants_headers and _TELLING.isdisjoint(noted):
            return PLAIN
        path, _, query = url.decode("latin-1").partition("?")
        try:
            return read_meta(headers, self.wants_headers, path, query)
        except HTTPError:
            return None


def choose(
    lanes: Mapping[str, Lane], cold_reason: Callable[[str], str | None], unfit: str | None
) -> tuple[dict[bytes, HotRoute], dict[str, LaneChoice]]:
    """The hot lane's table, and each path's lane with its reason.

    Args:
        lanes: Every path's cold lane.
        cold_reason: Why a path's requests must come through the app; None if they need not.
        unfit: Why there is no hot lane at all, or None.
    """
    routes: dict[bytes, HotRoute] = {}
    choices: dict[str, LaneChoice] = {}
    for path, lane in lanes.items():
        reason = unfit or (lane.cold_reason if lane.hot is None else cold_reason(path))
        if not reason and lane.hot == "stream" and lane.gate.sse_ids:
            reason = "its events are numbered"
        choices[path] = LaneChoice("cold", reason) if reason else LaneChoice("hot", "a plain route")
        if not reason:
            routes[path.encode()] = HotRoute(lane.gate, lane.error_body, path)
    return routes, choices


def unfit_reason() -> str | None:
    """Why the hot lane cannot stand on the installed uvicorn, or None if it can.

    The class it extends is not public, so everything it relies on is looked up before it is used.
    """
    try:
        import httptools
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError as error:
        return f"httptools cannot be used: {error}"
    for name, parameters in CALLBACKS.items():
        method = getattr(HttpToolsProtocol, name, None)
        found = None if method is None else tuple(inspect.signature(method).parameters)[1:]
        if found != parameters:
            return f"uvicorn {version('uvicorn')} has another {name}{found or ''}"
    source = inspect.getsource(HttpToolsProtocol.__init__)
    missing = [name for name in ATTRIBUTES if f"self.{name}" not in source]
    if missing or not hasattr(httptools.HttpRequestParser, "set_dangerous_leniencies"):
        return f"uvicorn {version('uvicorn')} and httptools {version('httptools')} lack {', '.join(missing)}"
    return None
