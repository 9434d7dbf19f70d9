"""How far a fit has come, as numbers, and their place in a checkpoint."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Counters:
    """All a loop needs to go on from where another one stopped.

    Attributes:
        epoch: The running epoch.
        batch: Batches of this epoch that are done.
        batches: Batches of all epochs that are done.
        global_step: Optimizer steps.
        epoch_closed: The work of the epoch's end (schedulers, validation) has been done.
        epoch_done: The epoch is over; the next one begins.
        validations: Validation runs that are done.
        logs: A row is written after the batch that runs now.
    """

    epoch: int = 0
    batch: int = 0
    batches: int = 0
    global_step: int = 0
    epoch_closed: bool = False
    epoch_done: bool = False
    validations: int = 0
    logs: bool = False

    def next_epoch(self) -> None:
        """Go to the beginning of the next epoch."""
        self.epoch += 1
        self.batch = 0
        self.epoch_closed = self.epoch_done = False

    def state_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def load(self, state: dict[str, Any]) -> None:
        """Take over the values of `state_dict`."""
        for name, value in state.items():
            setattr(self, name, value)

    def as_loops(self) -> dict[str, Any]:
        """The `loops` part of a Lightning-shaped checkpoint, for tools that read it."""
        epochs = self.epoch + self.epoch_done
        batches = {"ready": self.batches, "started": self.batches, "processed": self.batches}
        current = {"ready": self.batch, "started": self.batch, "processed": self.batch}
        epoch = {"ready": self.epoch + 1, "started": self.epoch + 1, "processed": epochs, "completed": epochs}
        return {
            "fit_loop": {
                "state_dict": {},
                "epoch_loop.state_dict": {"_batches_that_stepped": self.global_step},
                "epoch_loop.batch_progress": {
                    "total": {**batches, "completed": self.batches},
                    "current": {**current, "completed": self.batch},
                    "is_last_batch": self.epoch_closed,
                },
                "epoch_progress": {"total": epoch, "current": dict(epoch)},
            }
        }


def counters_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The counters in a checkpoint of blixt, or as good as another Lightning-shaped one tells them."""
    own = checkpoint.get("blixt", {}).get("counters")
    if own is not None:
        return own
    loops = checkpoint.get("loops", {}).get("fit_loop", {})
    batches = loops.get("epoch_loop.batch_progress", {})
    done = loops.get("epoch_progress", {}).get("current", {}).get("completed", checkpoint["epoch"] + 1)
    return {
        "epoch": checkpoint["epoch"],
        "batch": batches.get("current", {}).get("completed", 0),
        "batches": batches.get("total", {}).get("completed", 0),
        "global_step": checkpoint["global_step"],
        "epoch_done": batches.get("is_last_batch", True) or done > checkpoint["epoch"],
    }
