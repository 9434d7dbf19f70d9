"""OpenAI's embeddings for a LitAPI."""

import base64
import inspect
import json
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec
from pydantic import BaseModel, ValidationError

from blixt.serve import HTTPError, Spec
from blixt.serve.codec import to_json
from blixt.serve.specs.base import Call, Endpoint

from ..app import RAISED
from ..hooks import is_generator
from .base import LitSpec
from .openai import unprocessable

if TYPE_CHECKING:
    from ..api import LitAPI

PATH = "/v1/embeddings"
ONE_INPUT = (
    "The OpenAIEmbedding spec does not support dynamic batching when client-side batching is used. "
    "To resolve this, either set `max_batch_size=1` or send a single input from the client."
)
SHAPE = "Let encode_response return {'embeddings': [...]}, which may hold 'prompt_tokens' and 'total_tokens'."


class EmbeddingRequest(BaseModel):
    """A request to `/v1/embeddings`."""

    input: str | list[str] | list[int] | list[list[int]]
    model: str
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None

    def ensure_list(self) -> list[Any]:
        """The inputs as a list."""
        single = isinstance(self.input, str) or (bool(self.input) and isinstance(self.input[0], int))
        return [self.input] if single else cast(list[Any], self.input)


class OpenAIEmbeddingSpec(LitSpec):
    """Serve a LitAPI as `/v1/embeddings`.

    `predict` gets the request's inputs and returns a vector for each; `encode_response` makes a dict of them,
    `{"embeddings": [...]}`, which may hold `prompt_tokens` and `total_tokens`.
    """

    api_path = PATH

    def decode_request(self, request: Any, lit_api: "LitAPI") -> Any:
        """The inputs: a list, or in a batch the only one."""
        return request.input if lit_api.max_batch_size > 1 else request.ensure_list()

    def encode_response(self, output: Any) -> Any:
        """The vectors as an answer; tokens are not counted."""
        return {"embeddings": output, "prompt_tokens": 0, "total_tokens": 0}

    def pre_setup(self, lit_api: "LitAPI") -> None:
        """Neither hook may be a generator, as the answer comes whole.

        Raises:
            ValueError: One is.
        """
        super().pre_setup(lit_api)
        for hook in ("predict", "encode_response"):
            if is_generator(getattr(lit_api, hook)):
                raise ValueError(
                    f"{type(lit_api).__name__}: You are using yield in your {hook} method, but embeddings "
                    "come whole: return them."
                )
        if lit_api.enable_async and not inspect.iscoroutinefunction(lit_api.predict):
            raise ValueError(f"{type(lit_api).__name__}.predict must be an async function.")

    def wire(self, lit_api: "LitAPI") -> Spec:
        """As one of blixt's specs."""
        return _Wire(lit_api.api_path, lit_api.max_batch_size > 1)

    def populate_context(self, context: Any, request: Any) -> None:
        """The request's parameters, but not its inputs."""
        context.update(request.model_dump(exclude={"input"}))


class _Wire(Spec):
    """The front half of `OpenAIEmbeddingSpec`."""

    streams = False

    def __init__(self, path: str, batched: bool) -> None:
        self._path = path
        self._batched = batched

    def endpoints(self) -> list[Endpoint]:
        """The route."""
        return [Endpoint(self._path, self._parse, "Embeddings", EmbeddingRequest)]

    def read(self, body: bytes) -> EmbeddingRequest:
        """What `decode_request` gets."""
        return EmbeddingRequest.model_validate_json(body)

    def encoder(self, api: Any) -> Callable[[Any, Any], Any] | None:
        """The adapter's, looked through."""
        from blixt.serve.plan import hook_of

        encode = hook_of(api, "encode_response")
        return lambda output, context: told(encode(output, context))

    def _parse(self, body: bytes) -> Call:
        try:
            request = EmbeddingRequest.model_validate_json(body)
        except ValidationError as error:
            raise unprocessable(error) from None
        if self._batched and len(request.ensure_list()) > 1:
            raise HTTPError(400, ONE_INPUT)
        return _Call(body, request)


def told(output: Any) -> dict[str, Any]:
    """A LitAPI's answer, or what is wrong with it, for the front to raise.

    LitServe raises it in the process that answers HTTP, where a test client sees it.
    """
    if not isinstance(output, dict):
        return {"wrong": f"Expected response to be a dictionary, but got type {type(output)}. {SHAPE}"}
    answer = cast(dict[str, Any], output)
    if "embeddings" not in answer:
        return {"wrong": f"The response does not contain the key 'embeddings'. {SHAPE}"}
    return answer


class _Call(Call):
    """An answer to `/v1/embeddings`."""

    def __init__(self, body: bytes, request: EmbeddingRequest) -> None:
        super().__init__([body])
        self._request = request

    def whole(self, outputs: list[list[bytes]]) -> bytes:
        """The embeddings in OpenAI's shape.

        Raises:
            HTTPError: The LitAPI's answer holds none: to be raised as a ValueError, see `app.RAISED`.
        """
        answer = msgspec.json.decode(outputs[0][0])
        if "wrong" in answer and "embeddings" not in answer:
            raise HTTPError(500, "Internal Server Error", {RAISED: json.dumps(answer["wrong"])})
        vectors: list[Any] = answer["embeddings"]
        if vectors and not isinstance(vectors[0], list):
            vectors = [vectors]
        data = [
            {"object": "embedding", "index": index, "embedding": self._vector(vector)}
            for index, vector in enumerate(vectors)
        ]
        usage = {name: answer.get(name, 0) for name in ("prompt_tokens", "total_tokens")}
        return to_json({"object": "list", "data": data, "model": self._request.model, "usage": usage})

    def _vector(self, values: list[float]) -> list[float] | str:
        if self._request.encoding_format == "float":
            return values
        return base64.b64encode(array("f", values).tobytes()).decode()
