"""Code of yours at twelve moments of a server's life; moments that nobody listens to cost nothing."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from blixt.serve.errors import ConfigError

if TYPE_CHECKING:
    from blixt.serve.api import API

logger = logging.getLogger("blixt.serve")
Listener = Callable[[Any], None]


class Callback:
    """Subclass it and write the methods you need; what they raise is logged and harms nobody.

    The methods about hooks and setup run in the workers, those about requests and the server in the front.
    """

    def on_before_setup(self, api: "API", /) -> None:
        """A worker is about to call `setup`."""

    def on_after_setup(self, api: "API", /) -> None:
        """A worker's `setup` has returned."""

    def on_before_decode_request(self, api: "API", /) -> None:
        """A request is about to be decoded."""

    def on_after_decode_request(self, api: "API", /) -> None:
        """A request is decoded."""

    def on_before_predict(self, api: "API", /) -> None:
        """`predict` is about to be called, for a request or a batch."""

    def on_after_predict(self, api: "API", /) -> None:
        """`predict` has returned; a generator's pieces are still to come."""

    def on_before_encode_response(self, api: "API", /) -> None:
        """An output is about to be encoded."""

    def on_after_encode_response(self, api: "API", /) -> None:
        """An output is encoded."""

    def on_server_start(self, server: Any, /) -> None:
        """The server accepts connections."""

    def on_server_end(self, server: Any, /) -> None:
        """The server has stopped."""

    def on_request(self, active_requests: int, /) -> None:
        """A request was admitted; so many are now active in this front, for this API."""

    def on_response(self, active_requests: int, /) -> None:
        """A request has its answer; so many are still active."""


EVENTS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class Events:
    """Callbacks by event, compiled: only methods that were overridden, each unable to do harm.

    Args:
        callbacks: In the order in which they are told.

    Raises:
        ConfigError: One of them is no `Callback`.
    """

    def __init__(self, callbacks: Iterable[Any] = ()) -> None:
        self._listeners: dict[str, tuple[Listener, ...]] = {}
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise ConfigError(f"callbacks: {callback!r} is no Callback; subclass blixt.serve.Callback.")
            for event in EVENTS:
                if getattr(type(callback), event) is not getattr(Callback, event):
                    listener = _harmless(getattr(callback, event))
                    self._listeners[event] = (*self._listeners.get(event, ()), listener)

    def of(self, event: str) -> tuple[Listener, ...]:
        """Who listens to an event."""
        return self._listeners.get(event, ())

    def around(self, hook: str) -> tuple[tuple[Listener, ...], tuple[Listener, ...]]:
        """Who is told before and after a hook."""
        return self.of(f"on_before_{hook}"), self.of(f"on_after_{hook}")

    def fire(self, event: str, value: Any) -> None:
        """Tell everyone who listens to an event."""
        for listener in self.of(event):
            listener(value)


NO_EVENTS = Events()


def events_of(api: "API", callbacks: Sequence[Any] = ()) -> Events:
    """The server's callbacks and then the API's own."""
    return Events([*callbacks, *api.callbacks])


def _harmless(method: Callable[[Any], None]) -> Listener:
    def call(value: Any) -> None:
        try:
            method(value)
        except Exception:
            logger.exception("callback %s failed", getattr(method, "__qualname__", method))

    return call


class PredictionTimeLogger(Callback):
    """Logs how long each `predict` took, in a worker that serves one request or batch at a time."""

    _started = 0.0

    def on_before_predict(self, api: "API", /) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_after_predict(self, api: "API", /) -> None:
        """Log the time."""
        logger.info("%s.predict took %.3f s", type(api).__name__, time.perf_counter() - self._started)


class RequestTracker(Callback):
    """Logs the number of active requests whenever one arrives."""

    def on_request(self, active_requests: int, /) -> None:
        """Log the number."""
        logger.info("%d active requests", active_requests)
