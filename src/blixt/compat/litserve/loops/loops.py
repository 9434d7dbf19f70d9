"""Which loop a LitAPI gets, and a worker run by hand."""

import logging
import os
from typing import Any

from ..callbacks import CallbackRunner
from ..status import WorkerSetupStatus
from ..transport.base import MessageTransport
from .base import LitLoop
from .simple_loops import BatchedLoop, SingleLoop
from .streaming_loops import BatchedStreamingLoop, StreamingLoop

logger = logging.getLogger(__name__)


def get_default_loop(stream: bool, max_batch_size: int, enable_async: bool = False) -> LitLoop:
    """The loop of LitServe's for a LitAPI with these arguments.

    Raises:
        ValueError: LitServe has none.
    """
    if enable_async is True and max_batch_size > 1:
        raise ValueError("Async batching is not supported. Please use enable_async=False with batching.")
    if max_batch_size > 1:
        return BatchedStreamingLoop() if stream else BatchedLoop()
    return StreamingLoop() if stream else SingleLoop()


def inference_worker(
    lit_api: Any,
    device: str,
    worker_id: int,
    request_queue: Any,
    transport: MessageTransport,
    workers_setup_status: dict[Any, str],
    callback_runner: CallbackRunner,
    restart_workers: bool,
) -> None:
    """Set a LitAPI up and serve a queue with it, in this process: for trials; servers start their own."""
    os.environ["LITSERVE_WORKER_ID"] = str(worker_id)
    name = f"{lit_api.api_path.split('/')[-1]}_{worker_id}"
    lit_api.device = device
    callback_runner.trigger_event("on_before_setup", lit_api=lit_api)
    try:
        lit_api.setup(device)
    except Exception:
        logger.exception("%s.setup failed in worker %d", type(lit_api).__name__, worker_id)
        workers_setup_status[name] = WorkerSetupStatus.ERROR
        return
    callback_runner.trigger_event("on_after_setup", lit_api=lit_api)
    workers_setup_status[name] = WorkerSetupStatus.READY
    loop = lit_api.loop
    if loop == "auto":
        loop = get_default_loop(lit_api.stream, lit_api.max_batch_size, lit_api.enable_async)
    loop._restart_workers = restart_workers  # pyright: ignore[reportPrivateUsage]
    loop(lit_api, device, worker_id, request_queue, transport, workers_setup_status, callback_runner)
