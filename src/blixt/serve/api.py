"""The class a user fills in: how one request becomes one answer."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from blixt.serve.batching import Policy
from blixt.serve.errors import ConfigError

if TYPE_CHECKING:
    from blixt.serve.specs.base import Spec


class API:
    """One model behind one path. Subclass it, load the model in `setup`, answer in `predict`.

    The hooks run in worker processes, in this order:
    `decode_request` -> (`batch`) -> `predict` -> (`unbatch`) -> `encode_response`.
    Only `predict` must be written. Each of these hooks may take a parameter named `context`: a dict of this
    request (a list of dicts in `batch`, `unbatch` and a batched `predict`) to carry things to later hooks.

    The annotation of `decode_request`'s parameter (or of `predict`'s, without `decode_request`) says how the
    body is read: a msgspec Struct, a pydantic model, a dataclass, TypedDict or builtin type is validated (422
    when it does not fit), `bytes` is the raw body, no annotation is plain JSON. A batched `predict` without
    `decode_request` is annotated with a list of those.

    Args:
        max_batch_size: Above 1, `predict` receives what `batch` made of up to so many requests.
        batch_timeout_s: How long the oldest request may wait for company. 0: as soon as a worker is idle.
        api_path: Path of the POST route.
        stream: `predict` yields pieces, sent as server-sent events.
        spec: `OpenAISpec(...)` gives OpenAI's routes in place of `api_path`.
        max_streams: Streams that one worker serves side by side.

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
    stream: bool = False
    spec: "Spec | None" = None
    max_streams: int = 64
    device: str = "cpu"

    def __init__(
        self,
        max_batch_size: int | None = None,
        batch_timeout_s: float | None = None,
        api_path: str | None = None,
        stream: bool | None = None,
        spec: "Spec | None" = None,
        max_streams: int | None = None,
    ) -> None:
        given = {
            "max_batch_size": max_batch_size,
            "batch_timeout_s": batch_timeout_s,
            "api_path": api_path,
            "stream": stream,
            "spec": spec,
            "max_streams": max_streams,
        }
        for name, value in given.items():
            if value is not None:
                setattr(self, name, value)

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

    def unbatch(self, output: Any, /) -> list[Any]:
        """Split a batch's output into one output a request."""
        return list(output)

    def encode_response(self, output: Any, /) -> Any:
        """Turn an output into something JSON-able, or `bytes`.

        When streaming it is called for each piece; written as a generator it gets the iterator of all pieces.
        """
        return output

    def health(self) -> bool:
        """Whether `/health` may say "ok". Runs in the front process, so keep it quick."""
        return True

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
        streams = self.stream or self.spec is not None
        if streams and self.max_batch_size > 1:
            raise ConfigError(f"{name}: a streaming API cannot batch; set max_batch_size=1 or stream=False.")
        return Policy(self.max_batch_size, self.batch_timeout_s, self.max_streams if streams else 0)

    def _bounds(self) -> Iterator[tuple[str, object, int]]:
        yield "max_batch_size", self.max_batch_size, 1
        yield "batch_timeout_s", self.batch_timeout_s, 0
        yield "max_streams", self.max_streams, 1
