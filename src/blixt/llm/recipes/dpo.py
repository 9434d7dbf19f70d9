"""Learn from preferences: a checkpoint and pairs of better and worse answers in, a better checkpoint out.

Read it from the bottom: `run` is the whole recipe. It resumes by itself, at the next step, with the same data
order and random state.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor

from blixt.fabric import Fabric, seed_everything
from blixt.llm.data import Loader, PackedBlock
from blixt.llm.errors import RecipeError
from blixt.llm.lora import LoRAConfig
from blixt.llm.parallel import ParallelConfig, prepare_blocks
from blixt.llm.recipes.adapt import Adapt, Scheme, adapt_model, base_config, export, load_base
from blixt.llm.recipes.align import apply_gradients, load_frozen, shares
from blixt.llm.recipes.config import read, show
from blixt.llm.recipes.dpo_data import loaders
from blixt.llm.recipes.dpo_model import FACTS, WITHOUT_REFERENCE, Loss, PreferenceModel, make_pair_loss, means
from blixt.llm.recipes.identity import changeable, identity
from blixt.llm.recipes.optim import OptimConfig, make_optimizers, make_schedule, set_learning_rate
from blixt.llm.recipes.report import LogConfig, Report, flops_per_token
from blixt.llm.recipes.resume import Checkpoints, ResumeConfig, TrainState, save_best, stopping
from blixt.llm.recipes.room import check_room
from blixt.llm.recipes.training import (
    chat_encoder,
    context_parallel,
    copies,
    counts,
    data_ranks,
    micro_batches,
    show_samples,
    start,
)
from blixt.llm.tokenizer import Tokenizer


@dataclass(frozen=True)
class DPOConfig:
    """Settings of preference training.

    Attributes:
        model: Checkpoint directory or .gguf file to begin with; also the reference.
        data: Preference pairs (prompt, chosen, rejected), or for kto judged answers (prompt, completion,
            label): whatever `load_examples` reads.
        data_kind: auto, or the kind of the rows.
        val_data: Held-out pairs; none takes a share of `data`.
        val_fraction: That share.
        out: Directory for what was trained.
        adapt: What is trained: full, lora, dora or qlora.
        lora: Shape of the adapter.
        quantize: Number format of the frozen weights of qlora: nf4, int8, int4 or fp8; none is nf4.
        merge: Write the whole model beside the adapter.
        loss: dpo, ipo, simpo and orpo learn from pairs; kto also from judged answers.
        beta: How strongly the reference holds (dpo, ipo, kto), the scale of means (simpo) or the weight of
            odds (orpo).
        gamma: Margin of simpo.
        label_smoothing: Share of pairs labelled the wrong way round (dpo).
        wanted_weight: Of wanted answers (kto).
        unwanted_weight: Of unwanted answers (kto).
        max_length: Tokens of a prompt with one answer; longer ones are cut at their end, and counted.
        block_size: Places in a packed row; 0 is as many as one pair may take.
        epochs: Passes over the pairs.
        steps: Optimizer steps; none follows from `epochs`.
        batch_size: Rows a step, over all ranks.
        micro_batch_size: Rows that a rank computes at once; 0 is all of its share.
        precision: 32-true, bf16-mixed, bf16-true and others that Fabric knows.
        seed: Of data order and adapters.
        val_every: Steps between two measurements on held-out pairs; 0 is only at the end.
        optim: The optimizer.
        parallel: Devices and how they share the work.
        log: Where numbers go.
        checkpoint: What a restart resumes from.
    """

    recipe: ClassVar[str] = "dpo"

    model: str
    data: str
    data_kind: Literal["auto", "preference", "judged"] = "auto"
    val_data: str | None = None
    val_fraction: float = 0.05
    out: str = "aligned"
    adapt: Adapt = "lora"
    lora: LoRAConfig = field(default_factory=lambda: LoRAConfig(r=16, alpha=32))
    quantize: Scheme | None = None
    merge: bool = True
    loss: Loss = "dpo"
    beta: float = 0.1
    gamma: float = 1.0
    label_smoothing: float = 0.0
    wanted_weight: float = 1.0
    unwanted_weight: float = 1.0
    max_length: int = 512
    block_size: int = 0
    epochs: int = 1
    steps: int | None = None
    batch_size: int = 8
    micro_batch_size: int = 0
    precision: str = "32"
    seed: int = 0
    val_every: int = 0
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(learning_rate=5e-5, weight_decay=0.0))
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    log: LogConfig = field(default_factory=LogConfig)
    checkpoint: ResumeConfig = field(default_factory=ResumeConfig)

    def __post_init__(self) -> None:
        if self.beta <= 0 or not 0 <= self.label_smoothing < 0.5:
            raise RecipeError("beta must be above 0, and label_smoothing from 0 to below 0.5")


def dpo(model: str | Path, data: str | Path, **settings: Any) -> dict[str, Any]:
    """Train a model on preference pairs.

    Args:
        model: Checkpoint directory or `.gguf` file.
        data: The pairs, see `DPOConfig`.
        **settings: Other settings of `DPOConfig`, dotted: `**{"optim.learning_rate": 1e-5}`.

    Returns:
        Of held-out pairs `margin` (difference of rewards), `accuracy` (share in the right order) and
        `val_loss`, before (`first_...`) and after; `steps`, `pairs`.

    Raises:
        LLMError: A setting, the data or the model is wrong.
    """
    return run(read(DPOConfig, (), {"model": str(model), "data": str(data), **settings}))


def run(config: DPOConfig) -> dict[str, Any]:
    """Train as the settings say; returns what `dpo` returns."""
    kept = Path(config.checkpoint.dir or Path(config.out) / "checkpoints")
    tokenizer = Tokenizer.load(config.model)
    shape = base_config(config.model)
    fabric = start(config.parallel, config.precision, config.log, kept)
    seed_everything(config.seed)
    _, micro = shares(config.batch_size, config.micro_batch_size, data_ranks(fabric)[1])
    copied = config.adapt == "full" and config.loss not in WITHOUT_REFERENCE
    also = [(shape, "float32")] if copied else []
    check_room(
        fabric, config, shape, micro, config.block_size or 2 * config.max_length, *also, adapted=config
    )
    base = load_base(config.model, config.adapt, config.precision, config.quantize)
    policy = adapt_model(base, config.adapt, config.lora)
    reference = load_frozen(config.model, config.precision) if copied else None
    pair_loss = make_pair_loss(config.loss, config.beta, config.gamma, config.label_smoothing)
    weights = config.wanted_weight, config.unwanted_weight
    cp = context_parallel(fabric, config.parallel, packed=True)
    add_up = partial(fabric.all_reduce, reduce_op="sum")
    whole = PreferenceModel(policy, reference, config.loss, pair_loss, config.beta, weights, cp, add_up)
    model = fabric.setup_module(prepare_blocks(whole, config.parallel))
    for method in ("reference_point", "next_logits"):
        model.mark_forward_method(method)
    optimizers = [fabric.setup_optimizers(optimizer) for optimizer in make_optimizers(model, config.optim)]

    train, held_out, said = loaders(config, tokenizer, *data_ranks(fabric))
    steps = config.steps or train.steps_left()
    schedule = make_schedule(config.optim, steps)
    state = TrainState(model, optimizers, train)
    own = identity(config, steps=steps)
    checkpoints = Checkpoints(fabric, kept, config.checkpoint, own, config.seed, changeable(config))
    progress = checkpoints.restore(state) or {"step": 0, "pairs": 0}
    report = Report(fabric, config.log, steps, flops_per_token(policy, shape, config.max_length))
    report.say(checkpoints.going_on or f"{show(config)}{said}")
    encode = chat_encoder(tokenizer)
    if not progress["step"]:
        progress["first"] = evaluate(fabric, model, held_out)
        show_samples(report, 0, model, tokenizer, encode)

    batches = iter(train)
    with stopping(fabric, progress["step"], config.checkpoint.stop_after_s) as stop:
        for step in range(progress["step"] + 1, steps + 1):
            rate = config.optim.learning_rate * schedule(step - 1)
            set_learning_rate(optimizers, rate)
            blocks = micro_batches(next(batches).to(fabric.device), micro)
            facts = train_step(fabric, model, blocks, whole)
            apply_gradients(fabric, model, optimizers, config.optim.clip)
            progress |= {"step": step, "pairs": progress["pairs"] + round(facts.pop("pairs"))}
            report.step(step, counts(fabric, blocks)[1], **facts, learning_rate=rate)
            with report.aside():
                if config.val_every and step % config.val_every == 0 and step < steps:
                    report.log(step, {f"val_{k}": v for k, v in evaluate(fabric, model, held_out).items()})
                show_samples(report, step, model, tokenizer, encode)
                leaves = stop.due(step)
                if leaves or checkpoints.due(step, steps):
                    checkpoints.save(step, state, progress)
            if leaves:
                report.say(f"stopped after step {step} ({stop.requested})")
                break

    after = evaluate(fabric, model, held_out)
    report.log(progress["step"], {f"val_{name}": value for name, value in after.items()})
    report.close()
    first = {f"first_{name}": value for name, value in progress["first"].items()}
    metrics = {
        **after,
        **first,
        "val_loss": after["loss"],
        "steps": progress["step"],
        "pairs": progress["pairs"],
    }
    save_best(fabric, kept / "last.ckpt", state)
    if fabric.is_global_zero:
        last, how = kept / "last.ckpt", config.adapt
        export(config.model, last, config.out, tokenizer, metrics, how, config.lora, merged=config.merge)
    fabric.barrier()
    return metrics


def train_step(
    fabric: Fabric, model: torch.nn.Module, blocks: list[PackedBlock], whole: PreferenceModel
) -> dict[str, float]:
    """Gradients of one step, every pair of all ranks with the same weight; returns means over the pairs."""
    own = torch.stack([whole.units(block).sum() for block in blocks]).sum()
    pairs = (fabric.all_reduce(own, "sum") / copies(fabric)).clamp(min=1)
    ranks = fabric.strategy.data_parallel_size  # gradients are averaged over these
    sums = torch.zeros(FACTS, device=fabric.device)
    with torch.no_grad():
        zero = cast("Any", model).reference_point(blocks)
    for index, block in enumerate(blocks):
        with fabric.no_backward_sync(model, enabled=index < len(blocks) - 1):
            facts: Tensor = model(block, zero)
            fabric.backward(facts[0] * ranks / pairs)
        sums += facts.detach()
    return means(fabric.all_reduce(sums, "sum") / copies(fabric))


@torch.no_grad()
def evaluate(fabric: Fabric, model: torch.nn.Module, loader: Loader) -> dict[str, float]:
    """Means over held-out pairs: loss, rewards, margin, share in the right order."""
    model.eval()
    loader.restart()
    sums = torch.zeros(FACTS, device=fabric.device)
    for block in loader:
        sums += model(block.to(fabric.device))
    model.train()
    found = means(fabric.all_reduce(sums, "sum") / copies(fabric))
    del found["pairs"]
    return found
