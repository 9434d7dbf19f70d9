"""What one optimizer step is, the same in every recipe: loss inside forward, weighted by tokens, clipped."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from blixt.fabric import Fabric
from blixt.llm.attention import Context, Packed
from blixt.llm.data import PackedBlock
from blixt.llm.losses import token_logprobs, token_loss
from blixt.llm.model import GPT
from blixt.llm.parallel import ContextParallel, ParallelConfig, make_strategy
from blixt.llm.recipes.report import LogConfig, Report, make_loggers
from blixt.llm.tokenizer import Tokenizer


class Trained(nn.Module):
    """A decoder and its loss as one module, because sharded strategies see only what happens in `forward`."""

    model: GPT

    def next_logits(self, tokens: Tensor) -> Tensor:
        """Logits (B, V) of the token after each row of (B, T)."""
        return self.model.logits(self.model.hidden(tokens)[:, -1])


class LossModel(Trained):
    """A decoder that predicts tokens.

    Args:
        model: The decoder.
        packed: Keep a block's documents apart; False takes each row as one sequence.
        cp: Divides sequences among ranks; None keeps them whole.
    """

    def __init__(self, model: GPT, *, packed: bool = True, cp: ContextParallel | None = None) -> None:
        super().__init__()
        self.model, self.packed, self.cp = model, packed, cp
        keep_buffers(self)

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


def packed_logprobs(
    model: GPT, block: PackedBlock, *, temperature: float = 1.0, cp: ContextParallel | None = None
) -> Tensor:
    """Log-probability of each target of a block, 0 where there is none, (B, T).

    Args:
        model: The decoder.
        block: (B, T), the same on the ranks of `cp`.
        temperature: Divides the logits first.
        cp: Divides sequences among ranks: each computes its part, and all get the whole. Their gradients
            are then those of one rank, once the ranks' are averaged.
    """
    part, ctx = (block, Packed(block.documents)) if cp is None else cp.share(block)
    hidden = model.hidden(part.tokens, ctx)
    found = token_logprobs(model, hidden, part.targets, part.mask, temperature=temperature)
    return found if cp is None else cp.gather(found)


def keep_buffers(module: nn.Module) -> None:
    """Spare DDP sending buffers before every step: here they are quantised weights, the same on all ranks."""
    names = [name for name, _ in module.named_buffers()]
    ddp: Any = nn.parallel.DistributedDataParallel
    ddp._set_params_and_buffers_to_ignore_for_model(module, names)  # torch has no public name for it


def start(config: ParallelConfig, precision: str, log: LogConfig, folder: Path) -> Fabric:
    """Launch the ranks, or join those that an environment started; loggers speak on rank 0 only."""
    fabric = Fabric(
        devices=config.devices,
        num_nodes=config.nodes,
        strategy=make_strategy(config),
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


def copies(fabric: Fabric) -> int:
    """How many ranks have the same data: those that share its layers or its sequences."""
    return fabric.world_size // fabric.strategy.data_parallel_size


class Step(NamedTuple):
    """What an optimizer step did, over all ranks, still on the device.

    Attributes:
        loss: Mean in nats a loss position.
        positions: Loss positions.
        tokens: Real tokens, padding not counted.
        norm: Of the gradient before it was clipped; 0 when it is not.
    """

    loss: Tensor
    positions: Tensor
    tokens: Tensor
    norm: Tensor


def train_step(
    fabric: Fabric,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    blocks: Sequence[PackedBlock],
    *,
    tp: int = 1,
    clip: float = 0.0,
) -> Step:
    """One optimizer step over some micro-batches, each token of all ranks with the same weight.

    Args:
        fabric: Launched.
        model: A `LossModel` that was set up.
        optimizers: Of its parameters, set up.
        blocks: This rank's micro-batches.
        tp: Ranks that share each layer, and so see the same tokens.
        clip: Largest norm of the gradient; 0 for no bound.
    """
    positions, tokens = counts(fabric, blocks)
    ranks = fabric.world_size // tp  # gradients are averaged over these, while losses are to be summed
    total = torch.zeros((), device=fabric.device)
    for index, block in enumerate(blocks):
        with fabric.no_backward_sync(model, enabled=index < len(blocks) - 1):
            loss = model(block.to(fabric.device), positions.clamp(min=1) / ranks)
            fabric.backward(loss)
        total += loss.detach()
    norm = torch.zeros(())
    for optimizer in optimizers:
        if clip:
            nonfinite = fabric.precision.compute_dtype is not torch.float16  # there the scaler's business
            found = fabric.clip_gradients(model, optimizer, max_norm=clip, error_if_nonfinite=nonfinite)
            norm = norm if found is None else found
        optimizer.step()
        optimizer.zero_grad()
    return Step(fabric.all_reduce(total), positions, tokens, norm)


def counts(fabric: Fabric, blocks: Sequence[PackedBlock]) -> tuple[Tensor, Tensor]:
    """Loss positions and real tokens in the micro-batches of all ranks that have different data."""
    positions = torch.stack([(block.mask & (block.targets >= 0)).sum() for block in blocks]).sum()
    tokens = torch.stack([(block.documents >= 0).sum() for block in blocks]).sum()
    both = fabric.all_reduce(torch.stack((positions, tokens)).to(fabric.device), "sum") / copies(fabric)
    return both[0], both[1]


@torch.no_grad()
def evaluate(fabric: Fabric, model: nn.Module, blocks: Iterable[PackedBlock], tp: int = 1) -> float:
    """Mean loss in nats a loss position over all ranks' blocks; every rank brings equally many."""
    model.eval()
    parts = copies(fabric) // tp  # ranks that share a sequence
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
    model: nn.Module,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    max_tokens: int,
    device: torch.device,
    encode: Callable[[str], list[int]] | None = None,
) -> list[tuple[str, str]]:
    """What the model makes of each prompt, greedily; every rank calls it, as sharded models need.

    Args:
        model: A `Trained` that was set up, with `next_logits` marked.
        tokenizer: Its tokenizer.
        prompts: Texts to continue.
        max_tokens: How far.
        device: Where the model is.
        encode: Makes a prompt's tokens, such as a chat's; None takes the bare text.

    Returns:
        Pairs of prompt and continuation.
    """
    model.eval()
    found: list[tuple[str, str]] = []
    for prompt in prompts:
        ids = tokenizer.encode(prompt) if encode is None else encode(prompt)
        begun = len(ids)
        limit = int(cast("Any", model).model.config.context)
        for _ in range(max_tokens):
            logits: Tensor = cast("Any", model).next_logits(torch.tensor([ids[-limit:]], device=device))
            ids.append(int(logits.argmax()))
        written = ids[begun:]
        ends = [index for index, token in enumerate(written) if token in set(tokenizer.eos)]
        found.append((prompt, tokenizer.decode(written[: ends[0]] if ends else written)))
    model.train()
    return found


def show_samples(
    report: Report,
    step: int,
    model: nn.Module,
    tokenizer: Tokenizer,
    encode: Callable[[str], list[int]] | None = None,
) -> None:
    """Print what the model writes after a step, where the settings ask for it; every rank calls it."""
    if report.samples_due(step):
        log, device = report.config, report.fabric.device
        report.samples(step, write_on(model, tokenizer, log.prompts, log.sample_tokens, device, encode))


def endless(loader: Iterable[Any]) -> Iterator[Any]:
    """Batches of one epoch after the other."""
    while True:
        yield from loader


def micro_batches(block: PackedBlock, rows: int) -> list[PackedBlock]:
    """A batch (B, T) as batches of so many rows."""
    parts = [getattr(block, f.name).split(rows) for f in fields(PackedBlock)]
    return [PackedBlock(*part) for part in zip(*parts, strict=True)]


def chat_encoder(tokenizer: Tokenizer) -> Callable[[str], list[int]] | None:
    """Makes a prompt's tokens as the first message of a chat; None when the model has no chat template."""
    template = tokenizer.template
    if template is None:
        return None
    return lambda prompt: template.ids([{"role": "user", "content": prompt}], add_generation_prompt=True)
