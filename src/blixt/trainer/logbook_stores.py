"""The three dictionaries that tell others what was logged."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from blixt.fabric import ConfigError, nearest
from blixt.trainer.slots import Slot


@dataclass
class Stores:
    """The newest values, by name.

    Attributes:
        callback: Of everything, as tensors: for monitors and for people who write callbacks.
        logged: Of what loggers get.
        bar: Of what the progress bar shows, as numbers, of finished epochs and rows.
        rank_zero: Names that only rank 0 has logged, and that so cannot be monitored.
    """

    callback: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    logged: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    bar: dict[str, float] = field(default_factory=dict[str, float])
    rank_zero: set[str] = field(default_factory=set[str])

    def clear(self) -> None:
        """Forget everything; the dictionaries stay the same objects."""
        self.callback.clear()
        self.logged.clear()
        self.bar.clear()
        self.rank_zero.clear()

    def publish_epoch(self, slot: Slot, number: float) -> None:
        """An epoch value, which callbacks find under the bare name, too."""
        value = torch.tensor(number)
        self.callback[slot.epoch_key] = self.callback[slot.bare_key] = value
        if slot.options.prog_bar:
            self.bar[slot.epoch_key] = number
        if slot.options.logger:
            self.logged[slot.epoch_key] = value

    def publish_steps(self, slots: Iterable[Slot], to_callbacks: bool) -> None:
        """The running step values; callbacks see those of training only."""
        for slot in slots:
            if slot.last is None or not slot.options.on_step:
                continue
            value = slot.last if isinstance(slot.last, torch.Tensor) else torch.tensor(float(slot.last))
            if to_callbacks:
                self.callback[slot.step_key] = self.callback[slot.bare_key] = value
            if slot.options.logger:
                self.logged[slot.step_key] = value

    def missing(self, argument: str, name: str) -> ConfigError:
        """The error for a metric that somebody waits for and nobody has logged, see `Logbook.missing`."""
        known = sorted(set(self.callback) - self.rank_zero)
        if name in self.rank_zero:
            reason = "it is logged with rank_zero_only=True, so the other ranks do not know it"
            return ConfigError(argument, name, reason, "Log it on all ranks, with sync_dist=True")
        if not known:
            return ConfigError(argument, name, "no metric has been logged so far", "Log it with self.log")
        near = nearest(name, known)
        if near.startswith("Known"):
            return ConfigError(argument, name, "no such metric has been logged", near)
        reason = f"no such metric has been logged; known: {', '.join(known)}"
        return ConfigError(argument, name, reason, near.rstrip("?"))
