"""OpenAI's routes of one model and its adapters: chat, completions, responses, embeddings, models."""

import base64
from typing import Any

import msgspec

from blixt.llm.server.requests import (
    ChatBody,
    CompletionBody,
    EmbeddingBody,
    LLMRequest,
    read_chat,
    read_completion,
    read_embeddings,
    read_responses,
)
from blixt.serve.specs.base import Call, Endpoint
from blixt.serve.specs.openai import OpenAISpec
from blixt.serve.specs.openai_embeddings import TOKENS_BYTES, EmbeddingCall

MAX_INPUTS = 2048
_request = msgspec.json.Decoder(ChatBody | CompletionBody | EmbeddingBody)


class Vector(msgspec.Struct):
    """A worker's answer to one input: the vector as base64 of float32, and how many tokens it had."""

    vector: str
    tokens: int


_vector = msgspec.json.Decoder(Vector)


class LLMSpec(OpenAISpec):
    """`OpenAISpec` for a language model: more parameters, refusals in a sentence, and embeddings.

    Args:
        model: What clients call the model.
        more_models: What they call its adapters.
        max_tokens: Bound of an answer when the client names none.
    """

    def endpoints(self) -> list[Endpoint]:
        """Front: the routes."""
        from blixt.serve.specs.openai_docs import EMBEDDING_DOCS

        return [*super().endpoints(), Endpoint("/v1/embeddings", self._embed, *EMBEDDING_DOCS)]

    def read(self, body: bytes) -> LLMRequest:  # pyright: ignore[reportIncompatibleMethodOverride] - one kind more
        """Worker: what the front has checked and passed on."""
        return _request.decode(body)

    def _chat(self, body: bytes) -> Call:
        from blixt.serve.specs.openai_answer import CompletionCall

        return CompletionCall(read_chat(body), self.max_choices)

    def _completion(self, body: bytes) -> Call:
        from blixt.serve.specs.openai_answer import CompletionCall

        call = CompletionCall(read_completion(body), self.max_choices)
        call.request = msgspec.structs.replace(call.request, echo=False)  # the worker echoes, ids too
        return call

    def _response(self, body: bytes) -> Call:
        from blixt.serve.specs.openai_responses_wire import ResponseCall

        return ResponseCall(*read_responses(body))

    def _embed(self, body: bytes) -> Call:
        return VectorCall(read_embeddings(body), MAX_INPUTS)


class VectorCall(EmbeddingCall):
    """An answer to `/v1/embeddings` by a worker that streams: each input's one piece is JSON."""

    def whole(self, outputs: list[list[bytes]]) -> bytes:
        """The vectors in the inputs' order."""
        packed: list[list[bytes]] = []
        for (payload,) in outputs:
            piece = _vector.decode(payload)
            size = piece.tokens.to_bytes(TOKENS_BYTES, "little")
            packed.append([size + base64.b64decode(piece.vector)])
        return super().whole(packed)


def vector_piece(vector: Any, tokens: int) -> Vector:
    """A tensor (D,) as a piece."""
    return Vector(base64.b64encode(vector.numpy().tobytes()).decode(), tokens)
