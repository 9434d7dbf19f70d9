"""Logs how long predictions take, and how many requests are active."""

import logging
import time
from typing import Any

from ..base import Callback

logger = logging.getLogger(__name__)


class PredictionTimeLogger(Callback):
    """Logs the seconds of each `predict`."""

    _started = 0.0

    def on_before_predict(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_after_predict(self, *args: Any, **kwargs: Any) -> None:
        """Log the time."""
        logger.info(f"Prediction took {time.perf_counter() - self._started:.2f} seconds")


class RequestTracker(Callback):
    """Logs the number of active requests whenever one arrives; needs `LitServer(track_requests=True)`."""

    def on_request(self, *args: Any, active_requests: int | None = None, **kwargs: Any) -> None:
        """Log it."""
        logger.info(f"Active requests: {active_requests}")
