"""What a spec adds to an API: other routes in front, other requests and pieces in the worker."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from blixt.serve.api import API


class Spec(Protocol):
    """A foreign wire API spoken on top of `predict`. It is pickled into every worker.

    The front's half is chosen by `blixt.serve.http.app`, so that workers never import a web framework.
    """

    def read(self, body: bytes) -> Any:
        """Worker: the front's message as the request object that `decode_request` and `predict` receive."""
        ...

    def pieces(self, api: "API") -> Callable[[Any, Any], Iterator[Any]]:
        """Worker: the function `((request, predict's output), context) -> JSON-able pieces`."""
        ...
