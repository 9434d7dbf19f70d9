"""OpenAI's embeddings for a LitAPI."""

import asyncio
import base64
import inspect
import json
import time
import uuid
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec
from fastapi import HTTPException, Request, Response
from pydantic import BaseModel, ValidationError

from blixt.serve import HTTPError, Spec
from blixt.serve.codec import to_json
from blixt.serve.specs.base import Call, Endpoint

from ..app import RAISED
from ..hooks import is_generator
from ..status import LitAPIStatus
from ..utils import ResponseBufferItem
from .base import LitSpec
from .openai import unprocessable
from .openai_types import UsageInfo
from .paths import take_path

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

    def get_num_items(self) -> int:
        """How many vectors are asked for."""
        return len(self.ensure_list())

    def ensure_list(self) -> list[Any]:
        """The inputs as a list."""
        single = isinstance(self.input, str) or (bool(self.input) and isinstance(self.input[0], int))
        return [self.input] if single else cast(list[Any], self.input)


class Embedding(BaseModel):
    """One vector."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingResponse(BaseModel):
    """An answer of `/v1/embeddings`."""

    data: list[Embedding]
    model: str
    object: Literal["list"] = "list"
    usage: UsageInfo


class OpenAIEmbeddingSpec(LitSpec):
    """Serve a LitAPI as `/v1/embeddings`.

    `predict` gets the request's inputs and returns a vector for each; `encode_response` makes a dict of them,
    `{"embeddings": [...]}`, which may hold `prompt_tokens` and `total_tokens`. A subclass may add endpoints
    or override `embeddings_endpoint`; then they answer, instead of blixt's own embeddings.
    """

    empty_on = "GET"

    def __init__(self) -> None:
        super().__init__()
        self.api_path = PATH

    def decode_request(self, request: Any, context_kwargs: Any = None) -> Any:
        """The inputs: a list, or in a batch the only one."""
        return request.input if self._max_batch_size > 1 else request.ensure_list()

    def encode_response(self, output: Any, context_kwargs: Any = None) -> Any:
        """The vectors as an answer; tokens are not counted."""
        return {"embeddings": output, "prompt_tokens": 0, "total_tokens": 0}

    def pre_setup(self, lit_api: "LitAPI") -> None:
        """Neither hook may be a generator, as the answer comes whole.

        Raises:
            ValueError: One is.
        """
        self.api_path = take_path(lit_api, PATH)
        self.add_endpoint(self.api_path, self.embeddings_endpoint, ["POST"])
        self.add_endpoint(self.api_path, self.options_embeddings, ["GET"])
        for hook in ("predict", "encode_response"):
            if is_generator(getattr(lit_api, hook)):
                raise ValueError(
                    f"{type(lit_api).__name__}: You are using yield in your {hook} method, but embeddings "
                    "come whole: return them."
                )
        if lit_api.enable_async and not inspect.iscoroutinefunction(lit_api.predict):
            raise ValueError(f"{type(lit_api).__name__}.predict must be an async function.")

    def wire(self, lit_api: "LitAPI") -> Spec:
        """As one of blixt's specs: blixt's embeddings, unless a subclass has endpoints of its own."""
        own = (self.embeddings_endpoint, self.options_embeddings)
        changed = type(self).embeddings_endpoint is not OpenAIEmbeddingSpec.embeddings_endpoint
        if changed or any(endpoint not in own for _, endpoint, _ in self.endpoints):
            return super().wire(lit_api)
        return _Wire(lit_api.api_path, lit_api.max_batch_size > 1)

    def populate_context(self, context: Any, request: Any) -> None:
        """The request's parameters, but not its inputs."""
        context.update(request.model_dump(exclude={"input"}))

    async def options_embeddings(self, request: Request) -> Response:
        """The route is there."""
        return Response(status_code=200)

    async def embeddings_endpoint(self, request: EmbeddingRequest) -> Any:
        """Put the request into the queue, and the vectors that come of it into OpenAI's shape."""
        assert self.response_buffer is not None
        assert self.request_queue is not None
        if self._max_batch_size > 1 and request.get_num_items() > 1:
            raise HTTPException(400, ONE_INPUT)
        uid, event = uuid.uuid4(), asyncio.Event()
        self.response_buffer[uid] = ResponseBufferItem(event)
        self.request_queue.put((self.response_queue_id, uid, time.monotonic(), request))
        await event.wait()
        answer, status = self.response_buffer.pop(uid).response
        if status == LitAPIStatus.ERROR:
            raise answer if isinstance(answer, HTTPException) else HTTPException(500)
        shown = told(answer)
        if "wrong" in shown:
            raise ValueError(shown["wrong"])
        body = _Call(b"", request).whole([[to_json(shown)]])
        return Response(body, media_type="application/json")


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
