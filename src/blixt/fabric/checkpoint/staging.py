"""A copy of a checkpoint's tensors in CPU memory, made beside the training that goes on.

Tensors that only optimizer steps change are copied in the background; everything else is copied at once. The
next optimizer step waits until the copy is there, whoever calls it, through torch's hook before every step,
which is there from the first save until `close`.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from blixt.fabric.errors import CheckpointError

Later = list[tuple[torch.Tensor, torch.Tensor, int]]
"""(live tensor, its place in the copy, how often it had been written to)."""


class Staging:
    """Memory for one copy, used again for every save so that its pages are there already.

    Args:
        pinned: Page-locked memory, which a GPU copies to without the CPU; None where there is CUDA.
    """

    def __init__(self, pinned: bool | None = None) -> None:
        self._pinned = torch.cuda.is_available() if pinned is None else pinned
        self._buffers: dict[tuple[torch.Size, torch.dtype], list[torch.Tensor]] = {}
        self._free: dict[tuple[torch.Size, torch.dtype], list[torch.Tensor]] = {}
        self._steady: set[int] = set()
        self._done = threading.Event()
        self._done.set()
        self._hook: Any = None
        self._event: Any = None
        self._device: torch.device | None = None

    def expect_steady(self, tensors: Iterable[torch.Tensor]) -> None:
        """Hear which tensors of the next copy change in optimizer steps only."""
        self._steady.update(tensor.data_ptr() for tensor in tensors if type(tensor.data) is torch.Tensor)

    def begin(self, content: Mapping[str, Any]) -> tuple[dict[str, Any], Callable[[], None]]:
        """Copy what may change soon, and promise the rest.

        Returns:
            The content with its tensors replaced by their copies, and the function that makes the promised
            copies; call it once, from any thread, before looking at them.
        """
        self._free = {key: list(buffers) for key, buffers in self._buffers.items()}
        self._device = None
        later: Later = []
        copy = cast("dict[str, Any]", self._copy(content, {}, later))
        self._steady.clear()
        self._event = _copy_on_gpu(later, self._device)
        self._done.clear()
        if self._hook is None:
            self._hook = register_optimizer_step_pre_hook(self._before_step)
        return copy, lambda: self._finish(later)

    def wait(self) -> None:
        """Return when the live tensors may change."""
        if self._event is not None:
            torch.cuda.current_stream().wait_event(self._event)
        elif not self._done.is_set():
            self._done.wait()

    def _before_step(self, *_: Any) -> None:
        self.wait()

    def close(self) -> None:
        """Let go of the memory and of the hook."""
        self.wait()
        self._buffers.clear()
        hook, self._hook = self._hook, None
        if hook is not None:
            hook.remove()

    def _finish(self, later: Later) -> None:
        try:
            if self._event is not None:
                self._event.synchronize()
            for live, place, writes in later:
                if live.is_cuda:
                    continue
                place.copy_(live)
                if live._version != writes:
                    raise CheckpointError(
                        "A parameter was changed outside of an optimizer step while it was being staged, so "
                        "this checkpoint is dropped. Use AsyncCheckpointIO(overlap=False)."
                    )
        finally:
            self._done.set()

    def _copy(self, item: Any, seen: dict[int, torch.Tensor], later: Later) -> Any:
        if isinstance(item, torch.Tensor):
            return self._copy_tensor(item, seen, later)
        if isinstance(item, Mapping):
            pairs = cast("Mapping[Any, Any]", item).items()
            return {key: self._copy(value, seen, later) for key, value in pairs}
        if isinstance(item, list):
            return [self._copy(value, seen, later) for value in cast("list[Any]", item)]
        if type(item) is tuple:
            return tuple(self._copy(value, seen, later) for value in cast("tuple[Any, ...]", item))
        return item

    def _copy_tensor(self, live: torch.Tensor, seen: dict[int, torch.Tensor], later: Later) -> torch.Tensor:
        live = live.detach()
        ordinary = type(live) is torch.Tensor and live.layout == torch.strided
        if not ordinary or live.device.type not in ("cpu", "cuda") or not live.numel():
            return live.cpu().clone()
        address = live.data_ptr()
        tied = seen.get(address)
        if tied is not None and tied.shape == live.shape and tied.dtype == live.dtype:
            return tied
        place = seen[address] = self._place(live.shape, live.dtype)
        if live.is_cuda:
            self._device = live.device
        if address in self._steady:
            later.append((live, place, live._version))
        else:
            place.copy_(live, non_blocking=live.is_cuda)
        return place

    def _place(self, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        free = self._free.get((shape, dtype))
        if free:
            return free.pop()
        place = torch.empty(shape, dtype=dtype, pin_memory=self._pinned)
        self._buffers.setdefault((shape, dtype), []).append(place)
        return place


def _copy_on_gpu(later: Later, device: torch.device | None) -> Any:
    """Copy GPU tensors on a stream of their own, after what the current one was told to copy already.

    Returns:
        The event at the end of it all; None when nothing came from a GPU.
    """
    if device is None:
        return None
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for live, place, _ in later:
            if live.is_cuda:
                place.copy_(live, non_blocking=True)
                live.record_stream(stream)
        event = torch.cuda.Event()
        event.record(stream)
    return event
