"""This process's stages of a model, called like the whole model."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
import torch.distributed as dist
from torch import nn

from blixt.fabric.errors import ConfigError
from blixt.fabric.strategies.pipeline_forward import run_forward
from blixt.fabric.strategies.stages import merge_modules

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

LossFn = Callable[[Any, Any], torch.Tensor]
Purpose = Literal["train", "loss", "output"]


class PipelineModule(nn.Module):
    """Runs a batch through all processes' stages; every process gets the same loss or output.

    `module(inputs, target=...)` in training runs forward and backward of all micro-batches as the schedule
    orders them, and returns the loss. Gradients that this made are handed to the parameters when the loss's
    `backward()` is called, multiplied by the gradient that arrives there: so a loss may be divided, scaled or
    added to others, and `zero_grad()` may come before or after the call, as in any loop. Without gradients,
    `module(inputs)` returns the output, and with a target the loss.

    Parameters have the names of the whole model; there are only those of this process's stages.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        indices: Sequence[int],
        num_stages: int,
        schedule: type[Any],
        microbatches: int,
        loss_fn: LossFn | None,
        mesh: "DeviceMesh",
        device: torch.device,
        comes_back: bool = False,
    ) -> None:
        super().__init__()
        merge_modules(stages, self)
        own = vars(self)  # stages are in the tree above already, so they must not be registered again
        own["_stages"] = list(stages)
        self._indices = list(indices)
        self._num_stages = num_stages
        self._schedule_class = schedule
        self._microbatches = microbatches
        self._loss_fn = loss_fn
        self._group: Any = mesh.get_group()
        self._ranks = mesh.size()
        self._device = device
        self._comes_back = comes_back  # the stages go through the processes and back to the first
        self._schedules: dict[Any, Any] = {}

    @property
    def has_first(self) -> bool:
        """Whether inputs enter here."""
        return 0 in self._indices

    @property
    def has_last(self) -> bool:
        """Whether the loss is computed here."""
        return self._num_stages - 1 in self._indices

    def forward(self, *args: torch.Tensor, target: Any = None, **kwargs: Any) -> Any:
        """The loss of the batch, or the output of the last stage."""
        if not torch.is_grad_enabled():
            return self._evaluate(args, target, kwargs)
        if target is None:
            reason = "backward of a pipeline starts at the loss, which only the last stage can compute"
            fix = "Call model(inputs, target=target), and evaluate under torch.no_grad()"
            raise ConfigError("model(target)", None, reason, fix)
        anchor = torch.zeros((), device=self._device, requires_grad=True)
        return _RunPipeline.apply(anchor, self, args, target, kwargs)  # pyright: ignore

    def train(self, mode: bool = True) -> "PipelineModule":
        """Also of the stages themselves, which are not in the tree of parameters."""
        super().train(mode)
        for stage in vars(self).get("_stages", ()):
            stage.train(mode)
        return self

    def train_batch(self, args: Sequence[torch.Tensor], target: Any, kwargs: dict[str, Any]) -> torch.Tensor:
        """Forward and backward of all micro-batches; gradients are left in `.grad`; returns the loss."""
        schedule = self._schedule(args, "train")
        losses: list[torch.Tensor] = []
        schedule.step(
            *(args if self.has_first else ()),
            target=target if self.has_last else None,
            losses=losses if self.has_last else None,
            return_outputs=False,
            **kwargs,
        )
        return self._to_all(torch.stack(losses).mean().detach() if self.has_last else None)

    def _evaluate(self, args: Sequence[torch.Tensor], target: Any, kwargs: dict[str, Any]) -> Any:
        if self._comes_back:
            return self._evaluate_plainly(args, target, kwargs)
        schedule = self._schedule(args, "output" if target is None else "loss")
        losses: list[torch.Tensor] | None = [] if self.has_last and target is not None else None
        output = schedule.eval(
            *(args if self.has_first else ()),
            target=target if self.has_last else None,
            losses=losses,
            **kwargs,
        )
        if target is None:
            return self._to_all(output if self.has_last else None)
        return self._to_all(torch.stack(losses).mean() if losses is not None else None)

    def _evaluate_plainly(self, args: Sequence[torch.Tensor], target: Any, kwargs: dict[str, Any]) -> Any:
        """Without torch's schedule: those that come back run backward passes in evaluation, too."""
        stages = dict(zip(self._indices, vars(self)["_stages"], strict=True))
        way = [*range(self._ranks), *reversed(range(self._ranks))]
        count = self._count(_batch_size(args))
        outputs = run_forward(stages, way, args, kwargs, count, self._group, self._device)
        if target is None:
            return self._to_all(torch.cat(outputs) if outputs else None)
        loss_fn = self._loss_fn or _no_loss
        losses = [loss_fn(out, part) for out, part in zip(outputs, target.chunk(count), strict=False)]
        return self._to_all(torch.stack(losses).mean() if losses else None)

    def _to_all(self, result: torch.Tensor | None) -> torch.Tensor:
        """What the last stage has, on every process."""
        source = 0 if self._comes_back else self._ranks - 1
        box: list[Any] = [None if result is None else (result.shape, result.dtype)]
        dist.broadcast_object_list(box, group=self._group, group_src=source)
        if result is None:
            result = torch.empty(box[0][0], dtype=box[0][1], device=self._device)
        result = result.contiguous()
        cast("Any", dist).broadcast(result, group=self._group, group_src=source)
        return result

    def _schedule(self, args: Sequence[torch.Tensor], purpose: Purpose) -> Any:
        """The schedule for batches of this shape; micro-batches are alike, so odd batches have their own."""
        batch = _batch_size(args)
        count = self._count(batch)
        key = (purpose, count, tuple((arg.shape[1:], arg.dtype) for arg in args), batch // count)
        if key not in self._schedules:
            self._schedules[key] = self._make_schedule(count, purpose)
        return self._schedules[key]

    def _count(self, batch: int) -> int:
        """How many micro-batches: as asked, or for odd batches the most that divide it evenly."""
        return self._microbatches if batch % self._microbatches == 0 else math.gcd(batch, self._microbatches)

    def _make_schedule(self, count: int, purpose: Purpose) -> Any:
        from torch.distributed.pipelining import (
            PipelineStage,
            ScheduleDualPipeV,
            ScheduleGPipe,
            ScheduleInterleaved1F1B,
            ScheduleZBVZeroBubble,
        )

        stages = [
            PipelineStage(module, index, self._num_stages, self._device, group=self._group)
            for index, module in zip(self._indices, vars(self)["_stages"], strict=True)
        ]
        loss_fn: Any = None if purpose == "output" else self._loss_fn or _no_loss
        if len(stages) == 1:
            plain = purpose != "train" or count < self._ranks
            kind = ScheduleGPipe if plain else self._schedule_class
            return kind(stages[0], n_microbatches=count, loss_fn=loss_fn)
        if count % self._ranks and self._schedule_class is ScheduleInterleaved1F1B:
            reason = f"this schedule needs micro-batches in multiples of {self._ranks}"
            raise ConfigError("PipelineStrategy(microbatches)", count, reason, "Drop the last, smaller batch")
        kind = self._schedule_class
        if kind is ScheduleDualPipeV and count < self._num_stages:
            kind = ScheduleZBVZeroBubble  # the same stages in the same places, for the few of an odd batch
        return cast("Any", kind)(stages, n_microbatches=count, loss_fn=loss_fn)


class _RunPipeline(torch.autograd.Function):
    """Makes the schedule's own backward look like a node whose backward only hands gradients over."""

    @staticmethod
    def forward(
        ctx: Any, anchor: torch.Tensor, module: PipelineModule, args: Any, target: Any, kwargs: Any
    ) -> torch.Tensor:
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        before = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        with torch.enable_grad():
            loss = module.train_batch(args, target, kwargs)
        ctx.made = [(p, p.grad) for p in parameters if p.grad is not None]
        for parameter, grad in zip(parameters, before, strict=True):
            parameter.grad = grad
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        for parameter, made in ctx.made:
            made.mul_(grads[0])
            parameter.grad = made if parameter.grad is None else parameter.grad.add_(made)
        ctx.made = []
        return None, None, None, None, None


def _batch_size(args: Sequence[torch.Tensor]) -> int:
    if not args or any(arg.shape[:1] != args[0].shape[:1] for arg in args):
        reason = "a pipeline divides its inputs along their first dimension"
        raise ConfigError(
            "model(*inputs)", len(args), reason, "Give tensors with one batch size, by position"
        )
    return args[0].shape[0]


def _no_loss(output: Any, target: Any) -> torch.Tensor:
    reason = "nothing says what the loss is"
    raise ConfigError("PipelineStrategy(loss_fn)", None, reason, "Give a function of (output, target)")
