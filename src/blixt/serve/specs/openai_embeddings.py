"""OpenAI's embeddings on top of `predict`."""

import base64
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from blixt.serve.codec import to_json
from blixt.serve.errors import ConfigError
from blixt.serve.specs.base import Call, Endpoint, Spec
from blixt.serve.specs.openai_types import Embedding, EmbeddingRequest

if TYPE_CHECKING:
    from blixt.serve.api import API

_decoder = msgspec.json.Decoder(EmbeddingRequest)
TOKENS_BYTES = 4


class OpenAIEmbeddingSpec(Spec):
    """Serve an API as `/v1/embeddings` (and in `/v1/models`).

    Every input of a client's list becomes a request of its own, so that a batched API (`max_batch_size > 1`)
    fills its batches from all clients alike. `predict` receives an `EmbeddingRequest` whose `input` is one
    text or list of token ids (a list of those requests when batched), and returns its vector: floats, an
    array, a tensor, or an `Embedding` that also says how many tokens the input had.

    Args:
        model: The name clients ask for; None answers to every name.
        max_inputs: Most inputs of one request.

    Example:
        >>> OpenAIEmbeddingSpec("words").paths()
        ['/v1/embeddings']
    """

    streams = False

    def __init__(self, model: str | None, max_inputs: int = 2048) -> None:
        if model == "":
            raise ConfigError("OpenAIEmbeddingSpec: model is empty; give the name clients will ask for.")
        self.model = model
        self.max_inputs = max_inputs

    def endpoints(self) -> list[Endpoint]:
        """Front: the route."""
        from blixt.serve.specs.openai_docs import EMBEDDING_DOCS

        return [Endpoint("/v1/embeddings", self._parse, *EMBEDDING_DOCS)]

    def error_body(self, status: int, detail: object) -> bytes:
        """Front: an error in OpenAI's shape."""
        from blixt.serve.specs.openai_wire import error_body

        return error_body(status, detail)

    def read(self, body: bytes) -> EmbeddingRequest:
        """Worker: one input."""
        return _decoder.decode(body)

    def encoder(self, api: "API") -> Callable[[Any, Any], bytes]:
        """Worker: a vector as the front wants it, four bytes of token count and then float32."""
        from blixt.serve.plan import hook_of

        encode = hook_of(api, "encode_response")
        return lambda output, context: pack(encode(output, context))

    def _parse(self, body: bytes) -> Call:
        from blixt.serve.specs.openai_requests import read_embedding

        return EmbeddingCall(read_embedding(body), self.max_inputs)


class EmbeddingCall(Call):
    """An answer to `/v1/embeddings`."""

    def __init__(self, request: EmbeddingRequest, max_inputs: int) -> None:
        from blixt.serve.specs.openai_requests import inputs_of, require

        inputs = inputs_of(request)
        require(len(inputs) <= max_inputs, "input", f"has {len(inputs)} entries, above {max_inputs}")
        super().__init__([to_json(msgspec.structs.replace(request, input=one)) for one in inputs])
        self._request = request
        self._tokens = 0

    @property
    def tokens(self) -> tuple[int, int]:
        """Prompt tokens, for the metrics."""
        return self._tokens, 0

    def whole(self, outputs: list[list[bytes]]) -> bytes:
        """The vectors in the inputs' order, as floats or base64."""
        data: list[dict[str, Any]] = []
        for index, (payload,) in enumerate(outputs):
            self._tokens += int.from_bytes(payload[:TOKENS_BYTES], "little")
            data.append({"object": "embedding", "index": index, "embedding": self._vector(payload)})
        usage = {"prompt_tokens": self._tokens, "total_tokens": self._tokens}
        return to_json({"object": "list", "data": data, "model": self._request.model, "usage": usage})

    def _vector(self, payload: bytes) -> str | list[float]:
        if self._request.encoding_format == "base64":
            return base64.b64encode(payload[TOKENS_BYTES:]).decode()
        floats = array("f")
        floats.frombytes(payload[TOKENS_BYTES:])
        return floats.tolist()


def pack(output: Any) -> bytes:
    """A vector, or an `Embedding`, as bytes for the front.

    Raises:
        TypeError: It is no vector of numbers.
    """
    embedding = output if isinstance(output, Embedding) else Embedding(output)
    vector = embedding.vector
    values = vector.tolist() if hasattr(vector, "tolist") else vector
    try:
        floats = array("f", values)
    except TypeError:
        raise TypeError(
            f"predict returned {type(vector).__name__!r} for one input; an embedding is a list of floats, "
            "or an array of one dimension"
        ) from None
    return embedding.tokens.to_bytes(TOKENS_BYTES, "little") + floats.tobytes()
