"""Callbacks that come with the library."""

from .metric_callback import PredictionTimeLogger, RequestTracker

__all__ = ["PredictionTimeLogger", "RequestTracker"]
