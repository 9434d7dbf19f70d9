"""What one optimizer step is, the same in every recipe: loss inside forward, weighted by tokens, clipped."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from blixt.fabric import Fabric
from blixt.llm.attention import Context, Packed
from blixt.llm.config import ModelConfig
from blixt.llm.data import PackedBlock
from blixt.llm.losses import token_loss
from blixt.llm.model import GPT
from blixt.llm.parallel import ContextParallel, ParallelConfig, make_strategy
from blixt.llm.recipes.report import LogConfig, make_loggers
from blixt.llm.tokenizer import Tokenizer


class LossModel(nn.Module):
    """A decoder and its loss as one module, because sharded strategies see only what happens in `forward`.

    Args:
        model: The decoder.
        packed: Keep a block's documents apart; False takes each row as one sequence.
        cp: Divides sequences among ranks; None keeps them whole.
    """

    def __init__(self, model: GPT, *, packed: bool = True, cp: ContextParallel | None = None) -> None:
        super().__init__()
        self.model, self.packed, self.cp = model, packed, cp

    def forward(self, block: PackedBlock, count: Tensor | float = 1.0) -> Tensor:
        """Summed cross-entropy of a block's loss positions over `count`, in nats; a scalar.

        Args:
            block: (B, T).
            count: What to divide by: the loss positions of the whole step, say.
        """
        ctx: Context | None = Packed(block.documents) if self.packed else None
        if self.cp is not None:
            block, ctx = self.cp.share(block)
        hidden = self.model.hidden(block.tokens, ctx)
        return token_loss(self.model, hidden, block.targets, block.mask, count=count)

    def next_logits(self, tokens: Tensor) -> Tensor:
        """Logits (B, V) of the token after each row of (B, T)."""
        return self.model.logits(self.model.hidden(tokens)[:, -1])


def start(config: ParallelConfig, precision: str, log: LogConfig, folder: Path, model: ModelConfig) -> Fabric:
    """Launch the ranks, or join those that an environment started; loggers speak on rank 0 only."""
    fabric = Fabric(
        devices=config.devices,
        num_nodes=config.nodes,
        strategy=make_strategy(config, model),
        precision=cast("Any", precision),
    )
    fabric.launch()
    if fabric.is_global_zero:
        fabric.loggers += make_loggers(log, folder)
    return fabric


def context_parallel(fabric: Fabric, config: ParallelConfig, *, packed: bool) -> ContextParallel | None:
    """What divides sequences, if the settings ask for it."""
    if config.cp == 1:
        return None
    return ContextParallel(cast("Any", fabric.strategy).device_mesh["cp"].get_group(), packed)


def data_ranks(fabric: Fabric) -> tuple[int, int]:
    """This process's place among those with different data, and how many those are."""
    return fabric.strategy.data_parallel_rank, fabric.strategy.data_parallel_size


def train_step(
    fabric: Fabric,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    blocks: Sequence[PackedBlock],
    *,
    tp: int = 1,
    clip: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """One optimizer step over some micro-batches, each token of all ranks with the same weight.

    Args:
        fabric: Launched.
        model: A `LossModel` that was set up.
        optimizers: Of its parameters, set up.
        blocks: This rank's micro-batches, on its device.
        tp: Ranks that share each layer, and so see the same tokens.
        clip: Largest norm of the gradient; 0 for no bound.

    Returns:
        Mean loss in nats a loss position, and how many positions there were, over all ranks.
    """
    count = whole_count(fabric, blocks, tp)
    ranks = fabric.world_size // tp  # gradients are averaged over these, while losses are to be summed
    total = torch.zeros((), device=fabric.device)
    for index, block in enumerate(blocks):
        with fabric.no_backward_sync(model, enabled=index < len(blocks) - 1):
            loss = model(block, count.clamp(min=1) / ranks)
            fabric.backward(loss)
        total += loss.detach()
    for optimizer in optimizers:
        if clip:
            nonfinite = fabric.precision.compute_dtype is not torch.float16  # there the scaler's business
            fabric.clip_gradients(model, optimizer, max_norm=clip, error_if_nonfinite=nonfinite)
        optimizer.step()
        optimizer.zero_grad()
    return fabric.all_reduce(total), count


def whole_count(fabric: Fabric, blocks: Sequence[PackedBlock], tp: int = 1) -> Tensor:
    """Loss positions in the micro-batches of all ranks that have different data."""
    own = torch.stack([(block.mask & (block.targets >= 0)).sum() for block in blocks]).sum()
    copies = fabric.world_size // fabric.strategy.data_parallel_size
    return fabric.all_reduce(own, "sum") / copies


@torch.no_grad()
def evaluate(fabric: Fabric, model: nn.Module, blocks: Iterable[PackedBlock], tp: int = 1) -> float:
    """Mean loss in nats a loss position over all ranks' blocks; every rank brings equally many."""
    model.eval()
    parts = fabric.world_size // tp // fabric.strategy.data_parallel_size  # ranks that share a sequence
    sums = torch.zeros(2, device=fabric.device)
    for block in blocks:
        block = block.to(fabric.device)
        sums[0] += model(block) * parts
        sums[1] += (block.mask & (block.targets >= 0)).sum()
    model.train()
    total = fabric.all_reduce(sums, "sum")
    return float(total[0] / total[1].clamp(min=1))


@torch.no_grad()
def write_on(
    model: nn.Module, tokenizer: Tokenizer, prompts: Sequence[str], max_tokens: int, device: torch.device
) -> list[tuple[str, str]]:
    """What the model makes of each prompt, greedily; every rank calls it, as sharded models need.

    Args:
        model: A `LossModel` that was set up, with `next_logits` marked.
        tokenizer: Its tokenizer.
        prompts: Texts to continue.
        max_tokens: How far.
        device: Where the model is.

    Returns:
        Pairs of prompt and continuation.
    """
    model.eval()
    found: list[tuple[str, str]] = []
    for prompt in prompts:
        ids = list(tokenizer.encode(prompt))
        limit = int(cast("Any", model).model.config.context)
        for _ in range(max_tokens):
            logits: Tensor = cast("Any", model).next_logits(torch.tensor([ids[-limit:]], device=device))
            ids.append(int(logits.argmax()))
        written = ids[len(tokenizer.encode(prompt)) :]
        ends = [index for index, token in enumerate(written) if token in set(tokenizer.eos)]
        found.append((prompt, tokenizer.decode(written[: ends[0]] if ends else written)))
    model.train()
    return found


def endless(loader: Iterable[Any]) -> Iterator[Any]:
    """Batches of one epoch after the other."""
    while True:
        yield from loader
