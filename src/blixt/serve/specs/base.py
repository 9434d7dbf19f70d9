"""What a spec adds to an API: other routes in front, other requests and pieces in the worker."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blixt.serve.codec import to_json
from blixt.serve.errors import Failure
from blixt.serve.http.sse import event

if TYPE_CHECKING:
    from blixt.serve.api import API


class Call:
    """One client's request under a spec, in the front: what goes to workers, and what comes of their pieces.

    A call may need several worker requests (choices, prompts, inputs); they run side by side and `index` says
    which one a piece belongs to. Subclass it to give answers another shape: the base answers with the pieces
    as JSON, and streams them as server-sent events.

    Args:
        messages: One body for each worker request; `Spec.read` decodes it in the worker.
        stream: Whether the client wants the answer in pieces.
    """

    media_type = "application/json"

    def __init__(self, messages: Sequence[bytes], stream: bool = False) -> None:
        self.messages = list(messages)
        self.stream = stream

    def whole(self, outputs: list[list[bytes]]) -> bytes:
        """The answer in one body, from every worker request's pieces."""
        answers = [pieces[0] if len(pieces) == 1 else b"[" + b",".join(pieces) + b"]" for pieces in outputs]
        return answers[0] if len(answers) == 1 else b"[" + b",".join(answers) + b"]"

    def opening(self) -> bytes:
        """A stream's bytes before the first piece."""
        return b""

    def piece(self, index: int, payload: bytes) -> bytes:
        """A stream's bytes for one piece of one worker request."""
        return event(payload)

    def closing(self) -> bytes:
        """A stream's last bytes."""
        return b""

    def failed(self, failure: Failure) -> bytes:
        """A stream's last bytes after an error."""
        return event(to_json({"status": failure.status, "detail": failure.detail}), "error")

    @property
    def tokens(self) -> tuple[int, int] | None:
        """Prompt and completion tokens of the finished answer, for the metrics; None if it counts none."""
        return None

    @property
    def cached_tokens(self) -> int:
        """How many of the prompt tokens came from a cache, for the metrics."""
        return 0

    @property
    def token_seconds(self) -> Sequence[float]:
        """Seconds between the tokens of each worker request, where the model says so, for the metrics."""
        return ()


@dataclass(frozen=True)
class Endpoint:
    """One POST route of a spec.

    Args:
        path: Where clients send it.
        parse: A body as a `Call`; raises `HTTPError` for a body that is wrong.
        summary: A line for the documentation.
        request: The body's type (msgspec Struct, pydantic model, dataclass) or JSON schema, for the docs.
        response: The answer's type or JSON schema, for the docs.
        media_type: What the body is.
        answer_type: What the answer is, unless streamed; as the calls' `media_type`.
    """

    path: str
    parse: Callable[[bytes], Call]
    summary: str = ""
    request: Any = None
    response: Any = None
    media_type: str = "application/json"
    answer_type: str = "application/json"


class Spec:
    """A foreign wire API spoken on top of `predict`. Subclass it and write `endpoints`.

    The front half (`endpoints`, their `Call`s, `error_body`) runs in the HTTP process, the other methods in
    the workers; the object is pickled into each of them.

    Example:
        >>> class Shout(Spec):
        ...     def endpoints(self):
        ...         return [Endpoint("/shout", lambda body: Call([body.upper()]))]
        >>> Shout().paths()
        ['/shout']
    """

    model: str | None = None
    """Several specs may claim the same path if each has its own model: the body's `model` chooses."""

    @property
    def models(self) -> "tuple[str | None, ...]":
        """All models that it answers for; one spec may have several."""
        return (self.model,)

    streams: bool = True
    """Whether `predict` yields pieces. False: it returns one answer, and requests may be batched."""

    def endpoints(self) -> list[Endpoint]:
        """Front: the routes."""
        raise TypeError(f"{type(self).__name__} has no endpoints method; return the list of its Endpoints.")

    def paths(self) -> list[str]:
        """The routes' paths."""
        return [endpoint.path for endpoint in self.endpoints()]

    @property
    def label(self) -> str:
        """What metrics and `/info` call an API under this spec."""
        return f"{self.paths()[0]}:{self.model}" if self.model else self.paths()[0]

    @property
    def shapes_errors(self) -> bool:
        """Whether its errors have another shape than the server's."""
        return type(self).error_body is not Spec.error_body

    def error_body(self, status: int, detail: object) -> bytes:
        """Front: the body of an error."""
        return to_json({"detail": detail})

    def read(self, body: bytes) -> Any:
        """Worker: one of the call's messages as what `decode_request` and `predict` receive."""
        import msgspec

        return msgspec.json.decode(body)

    def pieces(self, api: "API") -> Callable[[Any, Any], Iterator[Any]]:
        """Worker, streams: the function `((request, predict's output), context) -> JSON-able pieces`."""
        from blixt.serve.plan import piecewise

        encode = piecewise(api)
        if encode is None:
            return lambda pair, context: iter(pair[1])
        return lambda pair, context: encode(pair[1], context)

    def apieces(self, api: "API") -> Callable[[Any, Any], AsyncIterator[Any]]:
        """Worker, streams of an async API: `pieces` for an async iterator."""
        from blixt.serve.plan import apiecewise

        encode = apiecewise(api)
        if encode is None:
            return lambda pair, context: pair[1]
        return lambda pair, context: encode(pair[1], context)

    def encoder(self, api: "API") -> Callable[[Any, Any], Any] | None:
        """Worker, no streams: `(output, context) -> JSON-able or bytes`; None: `encode_response` as it is."""
        return None
