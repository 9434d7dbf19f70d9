"""A batch through the stages of a pipeline without gradients, for schedules that can only train."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn

Tensors = tuple[torch.Tensor, ...]


def run_forward(
    stages: Mapping[int, nn.Module],
    owners: Sequence[int],
    args: Sequence[torch.Tensor],
    kwargs: Mapping[str, Any],
    count: int,
    group: Any,
    device: torch.device,
) -> list[Any]:
    """What the last stage makes of each micro-batch, where that stage is; [] elsewhere.

    Each process runs all micro-batches through its first stage, then through its next, so that the others
    work meanwhile.

    Args:
        stages: This process's, by index.
        owners: The process, counted in the group, that has each stage.
        args: The batch, where the first stage is.
        kwargs: For every stage.
        count: Micro-batches.
        group: The processes of the pipeline.
        device: Where tensors arrive.
    """
    own = dist.get_rank(group)
    parts: list[Any] = [args_of(args, count, number) for number in range(count)]
    more = [kwargs_of(kwargs, count, number) for number in range(count)]
    for index in sorted(stages):
        before = None if index == 0 or owners[index - 1] == own else owners[index - 1]
        after = None if index + 1 == len(owners) or owners[index + 1] == own else owners[index + 1]
        for number in range(count):
            given = parts[number] if before is None else _receive(before, group, device)
            output = stages[index](*given, **more[number])
            if after is not None:
                _send(_as_tuple(output), after, group)
            parts[number] = output if index + 1 == len(owners) else _as_tuple(output)
    return parts if owners[-1] == own else []


def args_of(args: Sequence[torch.Tensor], count: int, number: int) -> Tensors:
    """One micro-batch's part of each tensor."""
    return tuple(arg.chunk(count)[number] for arg in args)


def kwargs_of(kwargs: Mapping[str, Any], count: int, number: int) -> dict[str, Any]:
    """One micro-batch's part of each tensor, and everything else as it is."""
    return {
        name: value.chunk(count)[number] if isinstance(value, torch.Tensor) else value
        for name, value in kwargs.items()
    }


def _as_tuple(output: Any) -> Tensors:
    several = isinstance(output, (tuple, list))
    return tuple(cast("Sequence[torch.Tensor]", output)) if several else (output,)


def _send(tensors: Tensors, to: int, group: Any) -> None:
    torch_dist = cast("Any", dist)
    torch_dist.send_object_list([[(t.shape, t.dtype) for t in tensors]], group_dst=to, group=group)
    for tensor in tensors:
        torch_dist.send(tensor.contiguous(), group_dst=to, group=group)


def _receive(source: int, group: Any, device: torch.device) -> Tensors:
    torch_dist = cast("Any", dist)
    box: list[Any] = [None]
    torch_dist.recv_object_list(box, group_src=source, group=group)
    tensors = tuple(torch.empty(shape, dtype=dtype, device=device) for shape, dtype in box[0])
    for tensor in tensors:
        torch_dist.recv(tensor, group_src=source, group=group)
    return tensors
