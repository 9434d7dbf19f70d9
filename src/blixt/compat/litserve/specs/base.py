"""What the specs share."""

import warnings
from typing import TYPE_CHECKING, Any

from blixt.serve import Spec

if TYPE_CHECKING:
    from ..api import LitAPI


class LitSpec:
    """A wire API for a LitAPI. The ones that exist are `OpenAISpec` and `OpenAIEmbeddingSpec`.

    A new one is better written as a `blixt.serve.Spec`, whose `endpoints` are documented.
    """

    api_path: str | None = None
    stream: bool = False

    def pre_setup(self, lit_api: "LitAPI") -> None:
        """Check that the LitAPI's hooks and path fit.

        Raises:
            ValueError: They do not.
        """
        if self.api_path is not None and lit_api.api_path != self.api_path:
            warnings.warn(
                f"Custom API path detected: clients of OpenAI ask for {self.api_path}, "
                f"not for {lit_api.api_path}.",
                UserWarning,
                stacklevel=4,
            )

    def wire(self, lit_api: "LitAPI") -> Spec:
        """The same as one of blixt's specs."""
        raise TypeError(f"{type(self).__name__} has no wire(lit_api) method; return a blixt.serve.Spec.")

    def decode_request(self, request: Any, lit_api: "LitAPI") -> Any:
        """What a LitAPI without a `decode_request` of its own makes of a request."""
        return request

    def encode_response(self, output: Any) -> Any:
        """What a LitAPI without an `encode_response` of its own makes of its outputs."""
        return output

    def populate_context(self, context: Any, request: Any) -> None:
        """Put what the request says into its context."""

    def piece(self, data: Any) -> Any:
        """An encoded piece of a stream as the spec's front half takes it."""
        return data

    def last_piece(self) -> Any:
        """What ends a stream, if there is anything besides its end."""
        return None
