"""How much is trained a second."""

import time
from typing import TYPE_CHECKING, Any

from blixt.fabric import tensors
from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


class ThroughputMonitor(Callback):
    """Sends `samples_per_s`, `batches_per_s` and, for batches of token ids, `tokens_per_s` to the loggers.

    Numbers are of all processes together, since the last row. Validation and saving do not count.

    Args:
        tokens_per_sample: For batches that do not tell; by default the second dimension of integer batches.
    """

    def __init__(self, tokens_per_sample: int | None = None) -> None:
        self.tokens_per_sample = tokens_per_sample
        self._busy_s = 0.0
        self._since = 0.0
        self._samples = self._tokens = self._batches = 0

    def on_train_batch_start(self, trainer: "Trainer", module: "Module", batch: Any, batch_idx: int) -> None:
        """Time the wait for data as well: begin where the last batch ended."""
        if not self._since:
            self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: "Trainer", module: "Module", outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch; give out when the trainer logs."""
        self._count(batch)
        if trainer.logs_this_step:
            seconds = self._busy_s + time.perf_counter() - self._since
            scale = trainer.fabric.world_size / max(seconds, 1e-9)
            row = {"samples_per_s": self._samples * scale, "batches_per_s": self._batches * scale}
            if self._tokens:
                row["tokens_per_s"] = self._tokens * scale
            trainer.add_to_row(row)
            self._samples = self._tokens = self._batches = 0
            self._busy_s, self._since = 0.0, time.perf_counter()

    def on_validation_start(self, trainer: "Trainer", module: "Module") -> None:
        """Stop the clock."""
        if self._since:
            self._busy_s += time.perf_counter() - self._since
            self._since = 0.0

    def on_validation_end(self, trainer: "Trainer", module: "Module") -> None:
        """Go on with it."""
        if self._busy_s:
            self._since = time.perf_counter()

    def _count(self, batch: Any) -> None:
        first = next(tensors(batch), None)
        self._batches += 1
        if first is None or not first.ndim:
            return
        self._samples += first.shape[0]
        if self.tokens_per_sample is not None:
            self._tokens += first.shape[0] * self.tokens_per_sample
        elif first.ndim == 2 and not first.is_floating_point():
            self._tokens += first.numel()
