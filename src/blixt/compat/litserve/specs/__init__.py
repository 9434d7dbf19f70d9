"""Foreign wire APIs on top of `predict`."""

from .base import LitSpec
from .openai import OpenAISpec
from .openai_embedding import OpenAIEmbeddingSpec

__all__ = ["LitSpec", "OpenAIEmbeddingSpec", "OpenAISpec"]
