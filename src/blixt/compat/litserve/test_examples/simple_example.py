"""Plain, batched, streaming and torch."""

from collections.abc import Iterator
from typing import Any

from ..api import LitAPI


def _square(x: Any) -> Any:
    return x**2


class _Squares(LitAPI):
    """Answers with the square of `input`."""

    def setup(self, device: str) -> None:
        """Make the model."""
        self.model = _square

    def predict(self, x: Any) -> Any:
        """Square it."""
        return self.model(x)

    def encode_response(self, output: Any) -> Any:
        """Name it."""
        return {"output": output}


class SimpleLitAPI(_Squares):
    """Answers with the square of `input`."""

    def decode_request(self, request: Any) -> Any:
        """Take the number out."""
        return request["input"]


class SimpleBatchedAPI(_Squares):
    """The same on arrays, which stack to batches."""

    def decode_request(self, request: Any) -> Any:
        """Take the number out as an array."""
        import numpy as np

        return np.asarray(request["input"])


class SimpleTorchAPI(LitAPI):
    """A linear layer that computes 2x + 1."""

    def setup(self, device: str) -> None:
        """Make the layer."""
        import torch

        layer = torch.nn.Linear(1, 1)
        torch.nn.init.constant_(layer.weight, 2.0)
        torch.nn.init.constant_(layer.bias, 1.0)
        self.model = layer.to(device)

    def decode_request(self, request: Any) -> Any:
        """The number as a tensor on the model's device."""
        import torch

        return torch.tensor([request["input"]], device=self.device)

    def predict(self, x: Any) -> Any:
        """Run the layer on a batch of one."""
        return self.model(x[None, :])

    def encode_response(self, output: Any) -> Any:
        """As a plain number."""
        return {"output": float(output)}


class SimpleStreamAPI(LitAPI):
    """Streams three numbered copies of `input`."""

    def setup(self, device: str) -> None:
        """Make the model."""
        self.model = "{}: {}".format

    def decode_request(self, request: Any) -> Any:
        """Take the text out."""
        return request["input"]

    def predict(self, x: Any) -> Iterator[Any]:
        """One copy after another."""
        for number in range(3):
            yield self.model(number, x)

    def encode_response(self, output: Any) -> Iterator[Any]:
        """Name each."""
        for piece in output:
            yield {"output": piece}
