"""Foreign wire APIs on top of `predict`."""

from .base import LitSpec
from .openai import ChatCompletionChunk, ChatCompletionRequest, ChatCompletionResponse, OpenAISpec
from .openai_embedding import EmbeddingRequest, EmbeddingResponse, OpenAIEmbeddingSpec

__all__ = [
    "ChatCompletionChunk",
    "ChatCompletionRequest",
    "ChatCompletionResponse",
    "EmbeddingRequest",
    "EmbeddingResponse",
    "LitSpec",
    "OpenAIEmbeddingSpec",
    "OpenAISpec",
]
