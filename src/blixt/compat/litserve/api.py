"""LitAPI: the class that users of LitServe fill in."""

import pickle
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from blixt.serve import API

from .constants import DEFAULT_PATH
from .hooks import is_async

if TYPE_CHECKING:
    from .mcp import MCP
    from .specs.base import LitSpec

SLOW_INIT_S = 1.0


class _TimedInit(type):
    """Warns when a constructor takes long: it runs in the front, once; models belong into `setup`."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        made = super().__call__(*args, **kwargs)
        if time.perf_counter() - began > SLOW_INIT_S and cast(Any, cls).setup is LitAPI.setup:
            warnings.warn(
                f"{cls.__name__}.__init__ took longer than {SLOW_INIT_S:g} s: it looks like loading a model "
                "or doing other heavy processing inside the constructor; do it in setup(device).",
                RuntimeWarning,
                stacklevel=2,
            )
        return made


class LitAPI(metaclass=_TimedInit):
    """One model behind one path, with LitServe's hooks and arguments.

    Args:
        max_batch_size: Above 1, `predict` gets what `batch` made of up to so many requests.
        batch_timeout: Seconds that the oldest request may wait for company.
        api_path: Path of the route.
        stream: `predict` and `encode_response` are generators.
        loop: "auto", or an object with a method `run(plan, channel)`.
        spec: `OpenAISpec()`, `OpenAIEmbeddingSpec()`, or a `LitSpec` of one's own.
        mcp: `MCP(...)`: offer the API as a tool.
        enable_async: The hooks are coroutines.

    Raises:
        ValueError: An argument is out of range, or async hooks are missing.
    """

    request_timeout: float | None = None
    _default_unbatch: Callable[[Any], Any] | None = None

    def __init__(
        self,
        max_batch_size: int = 1,
        batch_timeout: float = 0.0,
        api_path: str = DEFAULT_PATH,
        stream: bool = False,
        loop: Any = "auto",
        spec: "LitSpec | None" = None,
        mcp: "MCP | None" = None,
        enable_async: bool = False,
    ) -> None:
        if max_batch_size <= 0:
            raise ValueError("max_batch_size must be greater than 0")
        if batch_timeout < 0:
            raise ValueError("batch_timeout must be greater than or equal to 0")
        if isinstance(loop, str) and loop != "auto":
            raise ValueError(f"loop={loop!r} must be 'auto' or an object that serves")
        _check_path("api_path", api_path)
        self.max_batch_size = max_batch_size
        self.batch_timeout = batch_timeout
        self.stream = stream if spec is None else spec.stream
        self.enable_async = enable_async
        self.mcp = mcp
        if mcp is not None:
            mcp.connect(self)
        self._api_path = api_path
        self._loop = loop or "auto"
        self._spec = spec
        self._device: str | None = None
        self._send_log: Callable[[str, Any], None] | None = None
        self._frozen_spec: bytes | None = None
        if max_batch_size == 1 and self._overrides("batch") and self._overrides("unbatch"):
            warnings.warn(
                f"{type(self).__name__} has both batch and unbatch methods implemented, "
                "but the max_batch_size parameter was not set.",
                stacklevel=2,
            )
        self._check_async()

    # -- hooks ---------------------------------------------------------------------------------------------

    def setup(self, device: str) -> None:
        """Load the model, once in each worker."""

    def decode_request(self, request: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Turn the body into what `predict` wants; by default what the spec makes of it."""
        return request if self._spec is None else self._spec.decode_request(request)

    def batch(self, inputs: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Join decoded requests: tensors and arrays are stacked, anything else stays a list."""
        return API.batch(cast(Any, self), inputs)

    def predict(self, x: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Answer one request, or one batch."""
        raise NotImplementedError("predict is not implemented")

    def unbatch(self, output: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Split a batch's output into one output a request; of a stream, each step's."""
        if self._default_unbatch is None:
            raise ValueError(
                "Default implementation for `LitAPI.unbatch` method was not found. Give the API to a "
                "LitServer (or call pre_setup) first, or implement unbatch."
            )
        return self._default_unbatch(output)

    def encode_response(self, output: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Turn an output into the answer; of a stream, the iterator of pieces into an iterator."""
        return output if self._spec is None else self._spec.encode_response(output)

    def health(self) -> bool:
        """Whether the health route may say "ok"; may be async."""
        return True

    # -- around them ---------------------------------------------------------------------------------------

    def pre_setup(self, spec: "LitSpec | None" = None) -> None:
        """What a server does before it asks anything else: choose how outputs are split, take a spec.

        Raises:
            ValueError: The hooks do not fit the arguments.
        """
        self._default_unbatch = split_stream if self.stream else split_batch
        self._spec = self._spec or spec
        if self._spec is not None:
            self.stream = self._spec.stream
            self._spec._max_batch_size = self.max_batch_size  # pyright: ignore[reportPrivateUsage]
            self._spec.pre_setup(self)

    def freeze_spec(self) -> None:
        """Let workers get the spec as it is now, and not with what its endpoints leave in it meanwhile."""
        self._frozen_spec = pickle.dumps(self._spec)

    def __getstate__(self) -> dict[str, Any]:
        """For workers."""
        if self._frozen_spec is None:
            return vars(self)
        return {**vars(self), "_spec": pickle.loads(self._frozen_spec)}

    def log(self, key: str, value: Any) -> None:
        """Hand a value to the server's loggers."""
        if self._send_log is None:
            warnings.warn(
                f"log({key!r}, ...) was attempted without a configured logger: give LitServer(loggers=...).",
                UserWarning,
                stacklevel=2,
            )
            return
        self._send_log(key, value)

    def set_logger_queue(self, queue: Any) -> None:
        """Let `log` put `(key, value)` into a queue of one's own, outside a server."""
        self._send_log = lambda key, value: queue.put((key, value))

    def format_encoded_response(self, data: Any) -> Any:
        """A streamed piece on the wire: dicts and pydantic models become a line of JSON."""
        from .pieces import to_line

        return to_line(data)

    @property
    def api_path(self) -> str:
        """Path of the route; that of the spec, if it has one."""
        path = None if self._spec is None else self._spec.api_path
        return path or self._api_path

    @api_path.setter
    def api_path(self, value: str) -> None:
        _check_path("api_path", value)
        self._api_path = value

    @property
    def spec(self) -> "LitSpec | None":
        """The wire API it speaks."""
        return self._spec

    @spec.setter
    def spec(self, value: "LitSpec | None") -> None:
        self._spec = value

    @property
    def loop(self) -> Any:
        """The loop that serves it."""
        return self._loop

    @property
    def device(self) -> str | None:
        """Where the model is, in a worker."""
        return self._device

    @device.setter
    def device(self, value: str) -> None:
        self._device = value

    def _overrides(self, hook: str) -> bool:
        return getattr(type(self), hook) is not getattr(LitAPI, hook)

    def _check_async(self) -> None:
        if not self.enable_async:
            return
        if not is_async(self.predict):
            raise ValueError(
                f"{type(self).__name__}.predict must be an async generator or async function when "
                "enable_async=True"
            )
        for hook in ("decode_request", "encode_response"):
            if not is_async(getattr(self, hook)):
                warnings.warn(
                    f"{hook} should be an async function or async generator when enable_async=True. "
                    "LitServe will asyncify the method.",
                    UserWarning,
                    stacklevel=3,
                )


def split_batch(output: Any) -> list[Any]:
    """One output a request; says so when the output was no sequence."""
    if isinstance(output, str | dict | set):
        kind = "string" if isinstance(output, str) else type(cast(object, output)).__name__
        warnings.warn(
            f"The 'predict' method returned a {kind} instead of a list of predictions. "
            "When batching is enabled, 'predict' must return a list to handle multiple inputs correctly.",
            UserWarning,
            stacklevel=3,
        )
    return list(cast(Any, output))


def split_stream(outputs: Any) -> Iterator[list[Any]]:
    """One list a step."""
    for output in outputs:
        yield list(output)


def _check_path(name: str, path: str) -> None:
    if not path.startswith("/"):
        raise ValueError(f"{name} must start with '/'. Got {path!r}; write for example '/predict'.")
