"""One training batch of a module that steps its optimizers by hand."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch.optim import Optimizer

from blixt.trainer.hooks import HookPlan
from blixt.trainer.losses import wrong_output
from blixt.trainer.optimizer_handle import TrainerOptimizer
from blixt.trainer.progress import Counters
from blixt.trainer.step_kind import NoSync, RunBatch, no_context


class ManualStep:
    """`training_step` does everything; optimizer steps are counted as they happen."""

    def __init__(
        self,
        forward: Callable[..., Any],
        no_sync: NoSync | None,
        optimizers: list[TrainerOptimizer],
        hooks: HookPlan,
        counters: Counters,
    ) -> None:
        self._forward = forward
        announcements = hooks.of("on_before_optimizer_step")

        def announce(optimizer: Optimizer) -> None:
            for hook in announcements:
                hook(optimizer)

        def count() -> None:
            counters.global_step += 1

        for optimizer in optimizers:
            optimizer.attach(announce, count, no_sync or no_context)

    def let_go(self) -> torch.Tensor | None:
        """None: there is no one loss of several optimizers."""
        return None

    def forget(self) -> None:
        """Nothing is kept between batches."""

    def begin_epoch(self) -> RunBatch:
        """Nothing changes."""
        return self._run

    def flush(self) -> bool:
        """Nothing is kept between batches."""
        return False

    def _run(self, args: tuple[Any, ...], boundary: bool) -> Any:
        output = self._forward(*args)
        if isinstance(output, torch.Tensor):
            return {"loss": output.detach()}
        if output is None:
            return {}
        if isinstance(output, Mapping):
            outputs = dict(cast("Mapping[str, Any]", output))
            if isinstance(outputs.get("loss"), torch.Tensor):
                outputs["loss"] = outputs["loss"].detach()
            return outputs
        raise wrong_output(output)
