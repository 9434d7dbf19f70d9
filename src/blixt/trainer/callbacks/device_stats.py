"""Log how busy and how full the device is."""

from typing import TYPE_CHECKING, Any

from blixt.fabric import ConfigError
from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


class DeviceStatsMonitor(Callback):
    """Sends the accelerator's statistics to the loggers, when a row is due.

    Names are `DeviceStatsMonitor.<hook>/<statistic>`.

    Args:
        cpu_stats: True adds those of the processor to those of another device; False leaves them out even
            where the processor is the device; None sends those of the device, whatever it is.
    """

    def __init__(self, cpu_stats: bool | None = None) -> None:
        self._cpu_stats = cpu_stats

    def setup(self, trainer: "Trainer", module: "Module", stage: str) -> None:
        """Refuse a trainer that would throw the numbers away.

        Raises:
            ConfigError: When there is no logger.
        """
        if stage != "fit":
            return
        if not trainer.loggers:
            raise ConfigError(
                "Trainer(logger)", False, "DeviceStatsMonitor has nowhere to send its values", "Add a logger"
            )

    def on_train_batch_start(self, trainer: "Trainer", module: "Module", batch: Any, batch_idx: int) -> None:
        """Before a step whose row will be written."""
        every, step = trainer.config.log_every_n_steps, trainer.counters.global_step
        if every and (step + 1) % every == 0:
            trainer.add_to_row(self._stats(trainer, "on_train_batch_start"))

    def on_train_batch_end(
        self, trainer: "Trainer", module: "Module", outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After it."""
        if trainer.logs_this_step:
            trainer.add_to_row(self._stats(trainer, "on_train_batch_end"))

    def on_validation_end(self, trainer: "Trainer", module: "Module") -> None:
        """After a validation: once, because its batches have no rows of their own."""
        if trainer.stage == "fit" and not trainer.sanity_checking:
            trainer.add_to_row(self._stats(trainer, "on_validation_end"))

    def on_test_epoch_end(self, trainer: "Trainer", module: "Module") -> None:
        """After a test."""
        trainer.add_to_row(self._stats(trainer, "on_test_epoch_end"))

    def _wants_cpu(self, trainer: "Trainer") -> bool:
        on_cpu = trainer.fabric.device.type == "cpu"
        return bool(self._cpu_stats) or (on_cpu and self._cpu_stats is None)

    def _stats(self, trainer: "Trainer", hook: str) -> dict[str, float]:
        device = trainer.fabric.device
        stats: dict[str, Any] = {}
        if device.type != "cpu" or self._wants_cpu(trainer):
            stats |= trainer.fabric.accelerator.get_device_stats(device)
        if device.type != "cpu" and self._cpu_stats:
            import torch

            from blixt.fabric.accelerators.cpu import CPUAccelerator

            stats |= CPUAccelerator().get_device_stats(torch.device("cpu"))
        return {f"{type(self).__qualname__}.{hook}/{name}": float(value) for name, value in stats.items()}
