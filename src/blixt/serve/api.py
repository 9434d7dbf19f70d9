"""The class a user fills in: how one request becomes one answer."""

import difflib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from blixt.serve.batching import Policy
from blixt.serve.errors import ConfigError

if TYPE_CHECKING:
    from blixt.serve.hub_rules import Incoming
    from blixt.serve.specs.base import Spec

CONTEXT_FIELDS = ("headers", "request_id", "path", "query", "content_type", "traceparent")


class Options(TypedDict, total=False):
    """The rarer arguments of `API`, see there. Each is a class attribute too."""

    batch_timeout: float
    enable_async: bool | None
    loop: Any
    mcp: Any
    max_cost: float
    retry_on_crash: bool | int
    context_fields: Sequence[str]
    start_timeout_s: float | None
    cache_s: float
    cache_bytes: int
    adaptive_limit: float
    zero_copy: bool
    callbacks: Sequence[Any]
    subprotocols: Sequence[str]


class API:
    """One model behind one path. Subclass it, load the model in `setup`, answer in `predict`.

    The hooks run in worker processes, in this order:
    `decode_request` -> (`batch`) -> `predict` -> (`unbatch`) -> `encode_response`.
    Only `predict` must be written. Each of these hooks may take a parameter named `context`: a dict of this
    request (a list of dicts in `batch`, `unbatch` and a batched `predict`) to carry things to later hooks;
    `context.cancelled` tells whether the client has left. Hooks may be `async def`: then one worker works on
    many requests at once.

    The annotation of `decode_request`'s parameter (or of `predict`'s, without `decode_request`) says how the
    body is read: a msgspec Struct, a pydantic model, a dataclass, TypedDict or builtin type is validated (422
    when it does not fit), from JSON or from a form; `bytes` is the raw body; `numpy.ndarray` a .npy file, raw
    numbers or JSON lists; `PIL.Image.Image` a picture; `Form` and `UploadFile` a form. No annotation is plain
    JSON, or what the content type says. A batched `predict` without `decode_request` is annotated with a list
    of those.

    Args:
        max_batch_size: Above 1, `predict` receives what `batch` made of up to so many requests.
        batch_timeout_s: How long the oldest request may wait for company. 0: as soon as a worker is idle.
            `batch_timeout` means the same.
        api_path: Path of the route.
        stream: `predict` yields pieces, sent as server-sent events. With "auto" the client chooses: events
            if it accepts them (or sends `"stream": true`), else one answer made by `join`.
        spec: `OpenAISpec(...)` gives OpenAI's routes in place of `api_path`.
        max_streams: Streams, sessions, or requests of an async API, that one worker serves side by side.
        enable_async: True insists on `async def predict`; None looks.
        loop: "auto", or an object whose `run(plan, channel)` serves in place of the loops we have.
        mcp: Offer the API as a tool over MCP, see `blixt.serve.MCP`.
        max_cost: Above 0, the `cost` of a batch's requests sums to at most this.
        retry_on_crash: Answer a request whose worker died by asking another worker: True for once, or how
            often. Only right if `predict` may run twice.
        context_fields: What `context` holds from the start: any of "headers", "request_id", "path", "query",
            "content_type", "traceparent".
        start_timeout_s: How long `setup` and warm-up may take; None: as `Limits.setup_timeout_s`.
        cache_s: Above 0, an equal request within so many seconds gets the same answer from the front, and no
            hook is called: right if the answer depends on the body (and `context_fields`) alone.
        cache_bytes: What all answers kept for that may hold together, in each front.
        adaptive_limit: Above 1, each front learns how many requests may run and wait for the time from
            admission to answer (or first piece) to stay below so many times what one takes that need not
            wait; more get 429. 0: only `max_queue` bounds them.
        zero_copy: Arrays and `memoryview`s may point into memory shared with the front. Right if hooks keep
            nothing of a request beyond its answer.
        callbacks: `Callback`s of this API alone.
        subprotocols: Of a websocket's `session`; the first that the client offers is agreed on.

    Raises:
        ConfigError: An argument is unknown.

    Example:
        >>> class Double(API):
        ...     def predict(self, x: float) -> float:
        ...         return 2 * x
        >>> Double(api_path="/double").predict(2.0)
        4.0
    """

    max_batch_size: int = 1
    batch_timeout_s: float = 0.0
    api_path: str = "/predict"
    stream: "bool | Literal['auto']" = False
    spec: "Spec | None" = None
    max_streams: int = 64
    device: str = "cpu"
    enable_async: bool | None = None
    loop: Any = "auto"
    mcp: Any = None
    max_cost: float = 0.0
    retry_on_crash: bool | int = False
    context_fields: Sequence[str] = ()
    start_timeout_s: float | None = None
    cache_s: float = 0.0
    cache_bytes: int = 64 * 2**20
    adaptive_limit: float = 0.0
    zero_copy: bool = False
    callbacks: Sequence[Any] = ()
    subprotocols: Sequence[str] = ()
    _send_log: "Callable[[str, Any], None] | None" = None
    _send_call: "Callable[[str, Any, float | None], Any] | None" = None

    def __init__(
        self,
        max_batch_size: int | None = None,
        batch_timeout_s: float | None = None,
        api_path: str | None = None,
        stream: "bool | Literal['auto'] | None" = None,
        spec: "Spec | None" = None,
        max_streams: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        given: dict[str, Any] = {
            "max_batch_size": max_batch_size,
            "batch_timeout_s": batch_timeout_s,
            "api_path": api_path,
            "stream": stream,
            "spec": spec,
            "max_streams": max_streams,
        }
        for name in options:
            if name not in Options.__annotations__:
                raise _unknown(type(self).__name__, name, [*given, *Options.__annotations__])
        given.update(options)
        alias = given.pop("batch_timeout", None)
        if alias is not None and batch_timeout_s is None:
            given["batch_timeout_s"] = alias
        for name, value in given.items():
            if value is not None:
                setattr(self, name, value)

    # -- hooks ---------------------------------------------------------------------------------------------

    def setup(self, device: str, /) -> None:
        """Load the model, once in each worker. `device` is "cpu", "cuda:0", ... or "mps"."""

    def decode_request(self, request: Any, /) -> Any:
        """Turn the body into what `predict` wants."""
        return request

    def batch(self, inputs: list[Any], /) -> Any:
        """Join decoded requests: tensors and arrays are stacked, anything else stays a list."""
        for library, kind in (("torch", "Tensor"), ("numpy", "ndarray")):
            module = sys.modules.get(library)
            if module is not None and isinstance(inputs[0], getattr(module, kind)):
                return module.stack(inputs)
        return inputs

    def predict(self, x: Any, /) -> Any:
        """Answer one request, or one batch."""
        raise ConfigError(f"{type(self).__name__} has no predict method; write one.")

    def unbatch(self, output: Any, /) -> Any:
        """Split a batch's output into one output a request (a streaming batch: each step's outputs)."""
        return list(output)

    def encode_response(self, output: Any, /) -> Any:
        """Turn an output into something JSON-able, `bytes`, a picture, or a `Reply`.

        When streaming it is called for each piece; written as a generator it gets the iterator of all pieces.
        """
        return output

    # -- around them ---------------------------------------------------------------------------------------

    def join(self, pieces: list[Any], /) -> Any:
        """One answer of all pieces, for `stream="auto"`. Runs in the front process, so keep it quick."""
        return pieces

    def health(self) -> Any:
        """Whether `/health` may say "ok"; may be `async`.

        Runs in the front process (which has not called `setup`), beside the requests: a check that blocks
        holds up nobody, and counts as unhealthy once it takes too long.
        """
        return True

    def metrics_text(self) -> str:
        """More lines for `/metrics`, as Prometheus text that ends with a line break.

        Runs in the front process, which has not called `setup`: what workers know reaches it through memory
        that both have.
        """
        return ""

    def priority(self, request: "Incoming", /) -> int:
        """How urgent a request is, -10 to 10. Runs in the front, before the request waits: keep it quick."""
        return 0

    def cost(self, request: "Incoming", /) -> float:
        """What a request adds to a batch, see `max_cost`. Runs in the front, as `priority`."""
        return 1.0

    def examples(self) -> Sequence[Any]:
        """Bodies (JSON-able or `bytes`) to warm up with: each worker answers them before it is ready.

        In a pipeline's later stages: values as the stage before hands them on.
        """
        return ()

    def log(self, key: str, value: Any) -> None:
        """Hand a value (anything that can be pickled) to the server's loggers; never blocks.

        Without loggers, or outside a worker, nothing happens.
        """
        if self._send_log is not None:
            self._send_log(key, value)

    def call(self, api: str, x: Any, *, timeout_s: float | None = None) -> Any:
        """Ask another API of the same server, by its class name or path, and return its answer.

        `x` arrives at its `decode_request` (or `predict`) as it is; no HTTP or JSON lies between. In an async
        API the result must be awaited; otherwise the worker waits. Two APIs whose workers all wait for each
        other end at their deadlines. A call has the time that is left to the request that makes it (of a
        batch, to the most patient one), its priority, request id and trace, and ends when its client leaves.

        Args:
            api: The other API's class name or `api_path`.
            x: Anything that can be pickled.
            timeout_s: Less time than that.

        Raises:
            HTTPError: The other API answered with an error, refused (429), died (503) or was late (504), or
                nobody waits any more for the request that called (499).
        """
        if self._send_call is None:
            raise ConfigError(f"{type(self).__name__}.call() works only while a server runs.")
        return self._send_call(api, x, timeout_s)

    # -- what the server asks ------------------------------------------------------------------------------

    @property
    def has_session(self) -> bool:
        """Whether the API serves websockets: it has a method `session(self, socket)`."""
        return callable(getattr(self, "session", None))

    @property
    def described(self) -> "API":
        """Whose annotations describe bodies and answers in the docs; the API's own."""
        return self

    def policy(self) -> Policy:
        """How requests are grouped, checked.

        Raises:
            ConfigError: A value is out of range, or two do not go together.
        """
        name = type(self).__name__
        for field, value, low in self._bounds():
            if isinstance(value, bool) or not isinstance(value, int | float) or value < low:
                raise ConfigError(f"{name}: {field}={value!r} is not a number of at least {low}.")
        if not self.api_path.startswith("/"):
            raise ConfigError(f"{name}: api_path={self.api_path!r} does not begin with '/'.")
        if self.stream not in (True, False, "auto"):
            raise ConfigError(f"{name}: stream={self.stream!r} is not True, False or 'auto'.")
        if self.cache_s and (self.stream or self.spec is not None):
            raise ConfigError(f"{name}: cache_s keeps whole answers; it does not go with a stream or a spec.")
        if 0 < self.adaptive_limit <= 1:
            raise ConfigError(
                f"{name}: adaptive_limit={self.adaptive_limit!r} would let nobody wait; give more than 1."
            )
        unknown = sorted(set(self.context_fields) - set(CONTEXT_FIELDS))
        if unknown:
            raise _unknown(f"{name}: context_fields", unknown[0], CONTEXT_FIELDS)
        from blixt.serve.plan_mode import policy_of

        return policy_of(self)

    def _bounds(self) -> Iterator[tuple[str, object, int]]:
        yield "max_batch_size", self.max_batch_size, 1
        yield "batch_timeout_s", self.batch_timeout_s, 0
        yield "max_streams", self.max_streams, 1
        yield "max_cost", self.max_cost, 0
        yield "cache_s", self.cache_s, 0
        yield "cache_bytes", self.cache_bytes, 0
        yield "adaptive_limit", self.adaptive_limit, 0
        yield "retry_on_crash", int(self.retry_on_crash), 0


def _unknown(where: str, name: str, known: Sequence[str]) -> ConfigError:
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}."
    return ConfigError(f"{where} knows no {name!r}; {hint}")
