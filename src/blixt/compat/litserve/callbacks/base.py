"""LitServe's callbacks, and the bridge from blixt's."""

import logging
from collections.abc import Sequence
from enum import Enum
from typing import Any

from blixt.serve import Callback as BlixtCallback

logger = logging.getLogger(__name__)


class EventTypes(Enum):
    """The moments at which callbacks are told."""

    BEFORE_SETUP = "on_before_setup"
    AFTER_SETUP = "on_after_setup"
    BEFORE_DECODE_REQUEST = "on_before_decode_request"
    AFTER_DECODE_REQUEST = "on_after_decode_request"
    BEFORE_ENCODE_RESPONSE = "on_before_encode_response"
    AFTER_ENCODE_RESPONSE = "on_after_encode_response"
    BEFORE_PREDICT = "on_before_predict"
    AFTER_PREDICT = "on_after_predict"
    ON_SERVER_START = "on_server_start"
    ON_SERVER_END = "on_server_end"
    ON_REQUEST = "on_request"
    ON_RESPONSE = "on_response"


class Callback:
    """Subclass it and write the methods you need."""

    def on_before_setup(self, *args: Any, **kwargs: Any) -> None:
        """A worker is about to call `setup`."""

    def on_after_setup(self, *args: Any, **kwargs: Any) -> None:
        """A worker's `setup` has returned."""

    def on_before_decode_request(self, *args: Any, **kwargs: Any) -> None:
        """A request is about to be decoded."""

    def on_after_decode_request(self, *args: Any, **kwargs: Any) -> None:
        """A request is decoded."""

    def on_before_encode_response(self, *args: Any, **kwargs: Any) -> None:
        """An output is about to be encoded."""

    def on_after_encode_response(self, *args: Any, **kwargs: Any) -> None:
        """An output is encoded."""

    def on_before_predict(self, *args: Any, **kwargs: Any) -> None:
        """`predict` is about to be called."""

    def on_after_predict(self, *args: Any, **kwargs: Any) -> None:
        """`predict` has returned."""

    def on_server_start(self, *args: Any, **kwargs: Any) -> None:
        """The server accepts connections."""

    def on_server_end(self, *args: Any, **kwargs: Any) -> None:
        """The server has stopped."""

    def on_request(self, *args: Any, **kwargs: Any) -> None:
        """A request was admitted."""

    def on_response(self, *args: Any, **kwargs: Any) -> None:
        """A request has its answer."""


class NoopCallback(Callback):
    """Does nothing."""


class CallbackRunner:
    """Tells callbacks; what they raise is logged and harms nobody."""

    def __init__(self, callbacks: Callback | Sequence[Callback] | None = None) -> None:
        self._callbacks: list[Callback] = []
        if callbacks:
            self._add_callbacks(callbacks)

    def _add_callbacks(self, callbacks: Callback | Sequence[Callback]) -> None:
        for callback in callbacks if isinstance(callbacks, Sequence) else [callbacks]:
            if not isinstance(callback, Callback):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ValueError(f"Invalid callback type: {callback}")
            self._callbacks.append(callback)

    def trigger_event(self, event_name: str, *args: Any, **kwargs: Any) -> None:
        """Tell every callback of an event."""
        for callback in self._callbacks:
            try:
                getattr(callback, event_name)(*args, **kwargs)
            except Exception:
                logger.exception("callback %r failed at %s", callback, event_name)


class Bridge(BlixtCallback):
    """Hands blixt's events on to LitServe's callbacks, with LitServe's arguments.

    Args:
        callbacks: LitServe's.
        track_requests: Whether requests are counted for them.
    """

    def __init__(self, callbacks: Callback | Sequence[Callback] | None, track_requests: bool) -> None:
        self._runner = CallbackRunner(callbacks)
        self._tracks = track_requests

    def on_before_setup(self, api: Any, /) -> None:
        """Hand it on."""
        self._runner.trigger_event("on_before_setup", lit_api=api.lit)

    def on_after_setup(self, api: Any, /) -> None:
        """Hand it on."""
        self._runner.trigger_event("on_after_setup", lit_api=api.lit)

    def on_before_decode_request(self, api: Any, /) -> None:
        """Hand it on."""
        self._runner.trigger_event("on_before_decode_request", lit_api=api.lit)

    def on_after_decode_request(self, api: Any, /) -> None:
        """Hand it on."""
        self._runner.trigger_event("on_after_decode_request", lit_api=api.lit)

    def on_before_predict(self, api: Any, /) -> None:
        """Hand it on."""
        self._runner.trigger_event("on_before_predict", lit_api=api.lit)

    def on_after_predict(self, api: Any, /) -> None:
        """Hand it on."""
        self._runner.trigger_event("on_after_predict", lit_api=api.lit)

    def on_before_encode_response(self, api: Any, /) -> None:
        """Hand it on."""
        self._runner.trigger_event("on_before_encode_response", lit_api=api.lit)

    def on_after_encode_response(self, api: Any, /) -> None:
        """Hand it on."""
        self._runner.trigger_event("on_after_encode_response", lit_api=api.lit)

    def on_server_start(self, server: Any, /) -> None:
        """Hand it on."""
        self._runner.trigger_event("on_server_start", lit_server=server)

    def on_server_end(self, server: Any, /) -> None:
        """Hand it on."""
        self._runner.trigger_event("on_server_end", lit_server=server)

    def on_request(self, active_requests: int, /) -> None:
        """Hand it on."""
        active = active_requests if self._tracks else None
        self._runner.trigger_event("on_request", active_requests=active, litserve=None)

    def on_response(self, active_requests: int, /) -> None:
        """Hand it on."""
        active = active_requests if self._tracks else None
        self._runner.trigger_event("on_response", active_requests=active, litserve=None)
