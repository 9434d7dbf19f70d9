"""How a run of the Trainer is asked to stop, and what follows once all ranks have left and saved."""

import signal

from blixt.fabric import Fabric, agree
from blixt.fabric.signals import SignalHandlers

__all__ = ["SignalHandlers", "StopAgreement"]

_LEFT_ON_REQUEST = 128 + signal.SIGTERM
_LONGEST_WAIT_S = 600.0


class StopAgreement(agree.StopAgreement):
    """`blixt.fabric.agree.StopAgreement` of a Fabric's processes.

    Args:
        fabric: The processes.
        run_id: Same on all ranks, different for every run in one process.
    """

    def __init__(self, fabric: Fabric, run_id: int) -> None:
        strategy = fabric.strategy
        timeout_s = min(_LONGEST_WAIT_S, getattr(strategy, "timeout_s", _LONGEST_WAIT_S))
        super().__init__(
            fabric.global_rank, fabric.world_size, strategy.side_channel(), run_id, timeout_s=timeout_s
        )
        self._fabric = fabric

    @property
    def requeues(self) -> bool:
        """Whether the request was to go back into the cluster's queue."""
        wanted = self._fabric.environment.requeue_signal
        return wanted is not None and self.requested == wanted.name

    @property
    def by_signal(self) -> bool:
        """Whether the request came from outside, and wants the process to end soon."""
        return self.requested is not None and self.requested.startswith("SIG")

    def finish(self) -> int | None:
        """After the last checkpoint is written: go back into the cluster's queue if that was the request.

        Returns:
            The exit code of a process that leaves because a signal asked for it; None if none did.
        """
        if not self.by_signal:
            return None
        if self.requeues and self._fabric.is_global_zero:
            # Said before: the cluster ends the job, and what it prints, as soon as it is asked to.
            print("blixt: the job goes back into the queue.", flush=True)
            self._fabric.environment.requeue()
        return _LEFT_ON_REQUEST
