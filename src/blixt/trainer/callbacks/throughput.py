"""How much is trained a second."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from blixt.fabric import ConfigError, tensors
from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.fabric.throughput import Throughput
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


class ThroughputMonitor(Callback):
    """Sends rates to the loggers when a row is due. Validation and saving do not count as training.

    Without arguments these are `samples_per_s`, `batches_per_s` and, for batches of token ids,
    `tokens_per_s`, of all processes together since the last row.

    With `batch_size_fn` they are those of `blixt.fabric.Throughput`, over a sliding window, for every stage:
    `train/device/samples_per_sec`, `validate/device/batches_per_sec` and so on, and with a `flops_per_batch`
    of the module `train/device/flops_per_sec` and `train/device/mfu`. Times are taken without waiting for the
    device: over a window the difference is that of its queue.

    Args:
        batch_size_fn: Samples in a batch.
        length_fn: Items in a batch, such as tokens.
        tokens_per_sample: Without `batch_size_fn`, for batches that do not tell; by default the second
            dimension of integer batches.
        kwargs: For `Throughput`: `available_flops` (default: looked up), `window_size`, `separator`.
    """

    def __init__(
        self,
        batch_size_fn: Callable[[Any], int] | None = None,
        length_fn: Callable[[Any], int] | None = None,
        tokens_per_sample: int | None = None,
        **kwargs: Any,
    ) -> None:
        if batch_size_fn is None and (length_fn is not None or kwargs):
            name = "length_fn" if length_fn is not None else next(iter(kwargs))
            reason = "it belongs to rates over a window, which count samples"
            raise ConfigError(f"ThroughputMonitor({name})", "...", reason, "Give batch_size_fn as well")
        self.batch_size_fn = batch_size_fn
        self.length_fn = length_fn
        self.tokens_per_sample = tokens_per_sample
        self._options = kwargs
        self._windows: dict[str, _Window] = {}
        self._busy_s = 0.0
        self._since = 0.0
        self._samples = self._tokens = self._batches = 0

    # --- training ---------------------------------------------------------------------------------

    def on_train_start(self, trainer: "Trainer", module: "Module") -> None:
        """Begin to measure."""
        if self.batch_size_fn is not None:
            self._windows = {"train": self._window(trainer)}

    def on_train_batch_start(self, trainer: "Trainer", module: "Module", batch: Any, batch_idx: int) -> None:
        """Time the wait for data as well: begin where the last batch ended."""
        if not self._since:
            self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: "Trainer", module: "Module", outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch; give out when the trainer logs."""
        if self.batch_size_fn is not None:
            self._take("train", module, batch, self._busy_s + time.perf_counter() - self._since)
            if trainer.logs_this_step:
                trainer.add_to_row(self._windows["train"].row("train"))
            return
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

    # --- the other stages -------------------------------------------------------------------------

    def on_validation_start(self, trainer: "Trainer", module: "Module") -> None:
        """Stop the clock of training."""
        if self._since:
            self._busy_s += time.perf_counter() - self._since
            self._since = 0.0
        self._begin("validate", trainer)

    def on_validation_batch_end(
        self,
        trainer: "Trainer",
        module: "Module",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch."""
        self._take("validate", module, batch)

    def on_validation_end(self, trainer: "Trainer", module: "Module") -> None:
        """Give out what validation did, and go on with the clock of training."""
        self._end("validate", trainer)
        if self._busy_s:
            self._since = time.perf_counter()

    def on_test_start(self, trainer: "Trainer", module: "Module") -> None:
        """Begin to measure."""
        self._begin("test", trainer)

    def on_test_batch_end(
        self,
        trainer: "Trainer",
        module: "Module",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch."""
        self._take("test", module, batch)

    def on_test_end(self, trainer: "Trainer", module: "Module") -> None:
        """Give out what the test did."""
        self._end("test", trainer)

    def on_predict_start(self, trainer: "Trainer", module: "Module") -> None:
        """Begin to measure."""
        self._begin("predict", trainer)

    def on_predict_batch_end(
        self,
        trainer: "Trainer",
        module: "Module",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch."""
        self._take("predict", module, batch)

    def on_predict_end(self, trainer: "Trainer", module: "Module") -> None:
        """Give out what the prediction did."""
        self._end("predict", trainer)

    # --- how --------------------------------------------------------------------------------------

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

    def _window(self, trainer: "Trainer") -> "_Window":
        from blixt.fabric.flops import get_available_flops
        from blixt.fabric.throughput import Throughput

        options = dict(self._options)
        if "available_flops" not in options:
            dtype = trainer.precision_plugin.input_dtype or trainer.lightning_module.dtype
            options["available_flops"] = get_available_flops(trainer.fabric.device, dtype)
        return _Window(Throughput(world_size=trainer.world_size, **options))

    def _begin(self, stage: str, trainer: "Trainer") -> None:
        if self.batch_size_fn is not None and not trainer.sanity_checking:
            self._windows[stage] = self._window(trainer)

    def _take(self, stage: str, module: "Module", batch: Any, seconds: float | None = None) -> None:
        window = self._windows.get(stage)
        if window is not None and self.batch_size_fn is not None:
            items = None if self.length_fn is None else self.length_fn(batch)
            flops = getattr(module, "flops_per_batch", None)
            window.take(self.batch_size_fn(batch), items, flops, seconds)

    def _end(self, stage: str, trainer: "Trainer") -> None:
        window = self._windows.get(stage)
        if window is not None and not trainer.sanity_checking:
            trainer.write_row(window.row(stage), trainer.counters.optimizer_steps, epoch=False)


class _Window:
    """The counters of one stage."""

    def __init__(self, throughput: "Throughput") -> None:
        self._throughput = throughput
        self._began = time.perf_counter()
        self._batches = self._samples = self._items = 0

    def take(self, samples: int, items: int | None, flops: float | None, seconds: float | None) -> None:
        self._batches += 1
        self._samples += samples
        self._items += items or 0
        elapsed = time.perf_counter() - self._began if seconds is None else seconds
        lengths = None if items is None else self._items
        self._throughput.update(
            time=elapsed, batches=self._batches, samples=self._samples, lengths=lengths, flops=flops
        )

    def row(self, stage: str) -> dict[str, float]:
        separator = self._throughput.separator
        return {f"{stage}{separator}{name}": value for name, value in self._throughput.compute().items()}
