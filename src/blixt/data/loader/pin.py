"""Batches in page-locked memory, copied there by a thread while the caller works on the one before."""

import queue
import threading
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from blixt.data.errors import LoaderError
from blixt.data.loader.read import EMPTY

_AHEAD = 2
_JOIN_S = 5.0


def pinned(batches: Iterator[tuple[int, Any]], timeout_s: float) -> Iterator[tuple[int, Any]]:
    """Yield the same steps, their arrays as tensors in page-locked memory.

    Raises:
        LoaderError: when there is no torch with a GPU, or no batch comes for `timeout_s`.
    """
    pin = _pinner()
    ready: queue.Queue[tuple[int, Any] | BaseException | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def run() -> None:
        try:
            for step, batch in batches:
                ready.put((step, batch if batch is EMPTY else pin(batch)), timeout=timeout_s)
                if stopped.is_set():
                    return
            ready.put(None, timeout=timeout_s)
        except BaseException as problem:  # handed to the consumer, who raises it
            ready.put(problem, timeout=timeout_s)

    thread = threading.Thread(target=run, name="blixt-data-pin", daemon=True)
    thread.start()
    try:
        while (item := ready.get(timeout=timeout_s)) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        while thread.is_alive():
            with_room = _drop_one(ready)
            thread.join(_JOIN_S if not with_room else 0.01)
            if not with_room:
                break
        close = getattr(batches, "close", None)
        if close is not None and not thread.is_alive():
            close()


def _drop_one(ready: "queue.Queue[Any]") -> bool:
    try:
        ready.get_nowait()
    except queue.Empty:
        return False
    return True


def _pinner() -> Any:
    try:
        torch = import_module("torch")
    except ImportError:
        raise LoaderError("pin=True gives torch tensors, and torch is not installed; leave pin out") from None
    if not torch.cuda.is_available():
        raise LoaderError("pin=True needs a GPU, and torch sees none; leave pin out")

    def pin(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: pin(child) for key, child in node.items()}
        if isinstance(node, (list, tuple)):
            children = [pin(child) for child in node]
            return type(node)(*children) if hasattr(node, "_fields") else type(node)(children)
        tensor = torch.as_tensor(node) if hasattr(node, "__array_interface__") else node
        return tensor.pin_memory() if isinstance(tensor, torch.Tensor) else node

    return pin
