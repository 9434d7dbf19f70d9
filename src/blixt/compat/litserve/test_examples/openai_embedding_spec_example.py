"""LitAPIs for `OpenAIEmbeddingSpec`."""

import random
from collections.abc import Iterator
from typing import Any

from ..api import LitAPI

WIDTH = 768


def vector() -> list[float]:
    """Random numbers."""
    return [random.random() for _ in range(WIDTH)]


def inputs_of(x: Any) -> list[Any]:
    """One input or several, as a list."""
    return x if isinstance(x, list) else [x]  # pyright: ignore[reportUnknownVariableType]


class TestEmbedAPI(LitAPI):
    """Random vectors, one for each input."""

    __test__ = False

    def predict(self, x: Any) -> Any:
        """A vector for each input."""
        return [vector() for _ in inputs_of(x)]

    def encode_response(self, output: Any) -> Any:
        """Name them."""
        return {"embeddings": output}


class TestEmbedBatchedAPI(TestEmbedAPI):
    """The same for a batch of requests."""

    def predict(self, x: Any) -> Any:
        """Vectors for each request."""
        return [[vector() for _ in inputs_of(one)] for one in x]


class TestEmbedAPIWithUsage(TestEmbedAPI):
    """Says how many tokens its inputs had."""

    def encode_response(self, output: Any) -> Any:
        """With the count."""
        return {"embeddings": output, "prompt_tokens": 10, "total_tokens": 10}


class TestEmbedAPIWithYieldPredict(TestEmbedAPI):
    """Wrong: embeddings come whole."""

    def predict(self, x: Any) -> Iterator[Any]:
        """In pieces."""
        yield from vector()


class TestEmbedAPIWithYieldEncodeResponse(TestEmbedAPI):
    """Wrong: embeddings come whole."""

    def encode_response(self, output: Any) -> Iterator[Any]:
        """In pieces."""
        yield {"embeddings": output}


class TestEmbedAPIWithNonDictOutput(TestEmbedAPI):
    """Wrong: the answer is a dict."""

    def encode_response(self, output: Any) -> Any:
        """As it is."""
        return output


class TestEmbedAPIWithMissingEmbeddings(TestEmbedAPI):
    """Wrong: the dict has embeddings."""

    def encode_response(self, output: Any) -> Any:
        """Under another name."""
        return {"output": output}
