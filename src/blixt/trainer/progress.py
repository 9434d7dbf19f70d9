"""How far a fit has come, as numbers."""

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass
class Counters:
    """All a loop needs to go on from where another one stopped.

    Attributes:
        epoch: The running epoch.
        batch: Batches of this epoch that are done.
        batches: Batches of all epochs that are done.
        global_step: Calls of `optimizer.step`; with several optimizers each of them counts.
        optimizer_steps: Batches after which the weights moved, however many optimizers took part. Loggers
            use this as their step.
        samples: Samples this process has trained on, where somebody counts them.
        tokens: Tokens this process has trained on, where somebody counts them.
        epoch_closed: The work of the epoch's end (schedulers, validation) has been done.
        epoch_done: The epoch is over; the next one begins.
        validations: Validation runs that are done.
        logs: A row is written after the batch that runs now.
        loaders_epoch: The epoch in which the training loader was made.
        validated_at: `batches` when validation ran last; -1 before the first.
        epoch_began_at: `global_step` when the running epoch began.
    """

    epoch: int = 0
    batch: int = 0
    batches: int = 0
    global_step: int = 0
    optimizer_steps: int = 0
    samples: int = 0
    tokens: int = 0
    epoch_closed: bool = False
    epoch_done: bool = False
    validations: int = 0
    logs: bool = False
    loaders_epoch: int = 0
    validated_at: int = -1
    epoch_began_at: int = 0

    def next_epoch(self) -> None:
        """Go to the beginning of the next epoch."""
        self.epoch += 1
        self.batch = 0
        self.epoch_began_at = self.global_step
        self.epoch_closed = self.epoch_done = False

    def state_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def load(self, state: dict[str, Any]) -> None:
        """Take over the values of `state_dict`; names that are not known here are left alone."""
        known = {field.name for field in fields(self)}
        for name, value in state.items():
            if name in known:
                setattr(self, name, value)
