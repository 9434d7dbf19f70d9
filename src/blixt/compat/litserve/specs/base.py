"""LitSpec: what a wire API on top of a LitAPI is written with.

A spec registers endpoints (FastAPI's functions) that put requests into `request_queue` and find the answers
in `response_buffer`, or stream them with `data_streamer`; its other methods are hooks, called in the workers.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from blixt.serve import Spec

if TYPE_CHECKING:
    from ..api import LitAPI
    from .queues import RequestQueue, ResponseBuffer, SpecServer

Endpoint = tuple[str, Callable[..., Any], list[str]]


class LitSpec:
    """A wire API for a LitAPI: subclass it, and register endpoints in `__init__` or `pre_setup`.

    Attributes:
        api_path: The path by which the server knows the LitAPI.
        response_buffer: Where an endpoint leaves a `ResponseBufferItem` for each request, by its uid.
        request_queue: Takes `(response_queue_id, uid, time.monotonic(), request)`.
        data_streamer: `(queue, event, send_status=False)`: a stream's pieces, as they come.
    """

    api_path: str | None
    empty_on = ""
    """A method to which its route answers with nothing, where blixt's own answers POST."""
    data_streamer: Callable[..., Any]

    def __init__(self) -> None:
        self._endpoints: list[Endpoint] = []
        self.api_path = None
        self._server: SpecServer | None = None
        self._max_batch_size = 1
        self.response_buffer: ResponseBuffer | None = None
        self.request_queue: RequestQueue | None = None
        self.response_queue_id: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The server and its queues stay where they are."""
        gone = ("_server", "response_buffer", "request_queue", "data_streamer")
        return {**vars(self), **dict.fromkeys(gone)}

    @property
    def stream(self) -> bool:
        """Whether the LitAPI answers in pieces; a property to override."""
        return False

    def pre_setup(self, lit_api: "LitAPI") -> None:
        """Look at the LitAPI, before anything is started.

        Raises:
            ValueError: Its hooks do not fit.
        """

    def setup(self, server: "SpecServer") -> None:
        """Take the server's queues; called before workers start, and in each further front process."""
        self.response_buffer = server.response_buffer
        self.request_queue = server._get_request_queue(self.api_path)  # pyright: ignore[reportPrivateUsage]
        self.data_streamer = server.data_streamer

    def add_endpoint(self, path: str, endpoint: Callable[..., Any], methods: list[str]) -> None:
        """Register a route."""
        self._endpoints.append((path, endpoint, methods))

    @property
    def endpoints(self) -> list[Endpoint]:
        """The routes: `(path, function, methods)`."""
        return list(self._endpoints)

    def decode_request(self, request: Any, context_kwargs: Any = None) -> Any:
        """What a LitAPI without a `decode_request` of its own makes of a request."""
        return request

    def encode_response(self, output: Any, context_kwargs: Any = None) -> Any:
        """What a LitAPI without an `encode_response` of its own makes of its output, or of its pieces."""
        return output

    def as_async(self) -> Any:
        """The spec as an async LitAPI's worker uses it: the same, with hooks to be awaited."""
        return AsyncSpec(self)

    # -- on blixt's side -----------------------------------------------------------------------------------

    def wire(self, lit_api: "LitAPI") -> Spec:
        """The same as one of blixt's specs."""
        from .queues import Queued

        return Queued(lit_api.api_path, lit_api.stream)

    def piece(self, data: Any) -> Any:
        """An encoded piece of a stream as blixt's spec takes it, if that is no `Queued`."""
        return data

    def last_piece(self) -> Any:
        """What ends such a stream, if there is anything besides its end."""
        return None


class AsyncSpec:
    """A spec whose hooks are coroutines; everything else is the spec's own."""

    def __init__(self, spec: LitSpec) -> None:
        self._spec = spec

    def __getattr__(self, name: str) -> Any:
        if name == "_spec":  # while it is unpickled
            raise AttributeError(name)
        return getattr(self._spec, name)

    async def decode_request(self, request: Any, context_kwargs: Any = None) -> Any:
        """The spec's."""
        return self._spec.decode_request(request, context_kwargs)

    async def encode_response(self, output: Any, context_kwargs: Any = None) -> Any:
        """The spec's."""
        return self._spec.encode_response(output, context_kwargs)


_AsyncSpecWrapper = AsyncSpec
