"""LitServe's loops, to be used as they are or subclassed: `LitAPI(loop=...)`."""

from .base import DefaultLoop, LitLoop
from .continuous_batching_loop import ContinuousBatchingLoop, DefaultContinuousBatchingLoop, Output
from .loops import get_default_loop, inference_worker
from .simple_loops import BatchedLoop, SingleLoop
from .streaming_loops import BatchedStreamingLoop, StreamingLoop

__all__ = [
    "BatchedLoop",
    "BatchedStreamingLoop",
    "ContinuousBatchingLoop",
    "DefaultContinuousBatchingLoop",
    "DefaultLoop",
    "LitLoop",
    "Output",
    "SingleLoop",
    "StreamingLoop",
    "get_default_loop",
    "inference_worker",
]
