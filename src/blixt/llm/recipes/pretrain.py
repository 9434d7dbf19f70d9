"""Pretrain a decoder, from scratch or from a checkpoint: token shards in, a checkpoint directory out.

Read it from the bottom: `run` is the whole recipe. It resumes by itself: started again on the same
checkpoint folder it goes on at the next step, with the same data order, learning rate and random state, on
any number of ranks.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from blixt.fabric import seed_everything
from blixt.llm.config import ModelConfig
from blixt.llm.config import preset as preset_of
from blixt.llm.errors import RecipeError
from blixt.llm.model import GPT
from blixt.llm.parallel import ParallelConfig, prepare_blocks
from blixt.llm.recipes.config import read, show
from blixt.llm.recipes.identity import changeable, identity
from blixt.llm.recipes.optim import OptimConfig, make_optimizers, make_schedule, set_learning_rate
from blixt.llm.recipes.pretrain_data import Data, as_block
from blixt.llm.recipes.report import LogConfig, Report, flops_per_token
from blixt.llm.recipes.resume import Checkpoints, ResumeConfig, TrainState, load_best, save_best, stopping
from blixt.llm.recipes.room import check_room
from blixt.llm.recipes.training import (
    LossModel,
    context_parallel,
    data_ranks,
    endless,
    evaluate,
    show_samples,
    start,
    train_step,
)
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of pretraining.

    Attributes:
        data: The folder that `prepare` wrote: train, val and tokenizer.json.
        out: Checkpoint directory for the best model; none takes BLIXT_MODEL_OUT, else "model".
        preset: Size of a model from scratch, see `blixt.llm.PRESETS`.
        model: Changes to the preset's fields, such as {layers: 8}.
        init: A checkpoint directory to go on from, in place of a fresh model.
        steps: Optimizer steps.
        batch_size: Blocks a step, over all ranks.
        micro_batch_size: Blocks that a rank computes at once; 0 is all of its share.
        block_size: Tokens a block.
        documents: join lets tokens see over the borders of documents in a block; mask does not.
        precision: 32-true, bf16-mixed, 16-mixed, bf16-true and others that Fabric knows.
        seed: Of weights and data order.
        val_every: Steps between two measurements on held-out text.
        val_batches: How many batches such a measurement takes.
        optim: The optimizer.
        parallel: Devices and how they share the work.
        log: Where numbers and sample texts go.
        checkpoint: What a restart resumes from.
    """

    recipe: ClassVar[str] = "pretrain"

    data: str
    out: str | None = None
    preset: str = "demo"
    model: dict[str, Any] = field(default_factory=dict[str, Any])
    init: str | None = None
    steps: int = 300
    batch_size: int = 16
    micro_batch_size: int = 0
    block_size: int = 128
    documents: Literal["join", "mask"] = "join"
    precision: str = "32"
    seed: int = 0
    val_every: int = 50
    val_batches: int = 8
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(learning_rate=3e-3))
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    log: LogConfig = field(default_factory=LogConfig)
    checkpoint: ResumeConfig = field(default_factory=lambda: ResumeConfig(every=50))

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "block_size", "val_every", "val_batches"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} is {getattr(self, name)}: it is at least 1")


def pretrain(
    data: str | Path,
    *,
    out: str | Path | None = None,
    preset: str = "demo",
    steps: int = 300,
    batch_size: int = 16,
    block_size: int = 128,
    learning_rate: float = 3e-3,
    precision: str = "32",
    devices: int | str = "auto",
    seed: int = 0,
    val_every: int = 50,
    checkpoint_dir: str | Path | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Pretrain a model on a folder that `prepare` wrote.

    Args:
        data: The prepared folder: train, val and tokenizer.json.
        out: Checkpoint directory for the best model; None takes BLIXT_MODEL_OUT, else "model".
        preset: Size of the model, see `blixt.llm.PRESETS`.
        steps: Optimizer steps.
        batch_size: Blocks a step, over all ranks.
        block_size: Tokens a block.
        learning_rate: Its highest value.
        precision: "32", "bf16-mixed" or "16-mixed".
        devices: Ranks to start on this machine; "auto" is every GPU, or one rank on the CPU. Leave it when
            torchrun or the cloud starts the ranks.
        seed: Of weights and data order.
        val_every: Steps between two measurements on held-out text.
        checkpoint_dir: Where to keep what a restart resumes from; None is "checkpoints" beside `out`.
        **more: Other settings of `PretrainConfig`, dotted: `**{"optim.name": "muon"}`.

    Returns:
        `val_loss` (the best, in nats per token), `steps`, `tokens`, `parameters`.

    Raises:
        LLMError: The preset, the tokenizer or a size is wrong.
        DataError: The prepared folder is not one.
    """
    given: dict[str, Any] = {
        "data": str(data),
        "out": None if out is None else str(out),
        "preset": preset,
        "steps": steps,
        "batch_size": batch_size,
        "block_size": block_size,
        "optim.learning_rate": learning_rate,
        "precision": precision,
        "parallel.devices": devices,
        "seed": seed,
        "val_every": val_every,
        "checkpoint.every": val_every,
        "checkpoint.dir": None if checkpoint_dir is None else str(checkpoint_dir),
    }
    return run(read(PretrainConfig, (), {**given, **more}))


def run(config: PretrainConfig) -> dict[str, Any]:
    """Pretrain as the settings say; returns what `pretrain` returns."""
    folder = Path(config.out or os.environ.get("BLIXT_MODEL_OUT") or "model")
    kept = Path(config.checkpoint.dir or folder.parent / "checkpoints")
    tokenizer = Tokenizer.load(Path(config.data))
    shape = configure(config, tokenizer)
    fabric = start(config.parallel, config.precision, config.log, kept)
    seed_everything(config.seed)
    data = Data(config, *data_ranks(fabric))
    check_room(fabric, config, shape, data.micro_batch, config.block_size)
    decoder = GPT(shape) if config.init is None else load_checkpoint(config.init, copy=True).train()
    flops = flops_per_token(decoder, shape, config.block_size)

    packed = config.documents == "mask"
    cp = context_parallel(fabric, config.parallel, packed=packed)
    model = fabric.setup_module(prepare_blocks(LossModel(decoder, packed=packed, cp=cp), config.parallel))
    model.mark_forward_method("next_logits")
    optimizers = [fabric.setup_optimizers(optimizer) for optimizer in make_optimizers(model, config.optim)]
    schedule = make_schedule(config.optim, config.steps)
    loader = fabric.setup_dataloaders(data.train(), use_distributed_sampler=False)

    state = TrainState(model, optimizers, loader)
    own = identity(config, steps=config.steps, model=shape.to_hf())
    checkpoints = Checkpoints(fabric, kept, config.checkpoint, own, config.seed, changeable(config))
    progress = checkpoints.restore(state) or {"step": 0, "best": None}
    report = Report(fabric, config.log, config.steps, flops)
    report.say(checkpoints.going_on or show(config))

    batches = endless(loader)
    with stopping(fabric, progress["step"], config.checkpoint.stop_after_s) as stop:
        for step in range(progress["step"] + 1, config.steps + 1):
            rate = config.optim.learning_rate * schedule(step - 1)
            set_learning_rate(optimizers, rate)
            blocks = [as_block(next(batches)) for _ in range(data.micro_batches)]
            done = train_step(
                fabric, model, optimizers, blocks, tp=config.parallel.tp, clip=config.optim.clip
            )
            report.step(step, done.tokens, loss=done.loss, learning_rate=rate)
            with report.aside():
                if step % config.val_every == 0 or step == config.steps:
                    measured = evaluate(fabric, model, data.held_out(), config.parallel.tp)
                    report.log(step, {"val_loss": measured})
                    if progress["best"] is None or measured < progress["best"]:
                        progress["best"] = measured
                        save_best(fabric, kept / "best.ckpt", state)
                show_samples(report, step, model, tokenizer)
                leaves = stop.due(step)
                if leaves or checkpoints.due(step, config.steps):
                    checkpoints.save(step, state, progress)
            progress["step"] = step
            if leaves:
                report.say(f"stopped after step {step} ({stop.requested})")
                break

    report.close()
    metrics = {
        "val_loss": progress["best"],
        "steps": progress["step"],
        "tokens": progress["step"] * config.batch_size * config.block_size,
        "parameters": sum(p.numel() for p in GPT.empty(shape).parameters()),
    }
    if fabric.is_global_zero and progress["best"] is not None:
        export(shape, kept / "best.ckpt", folder, tokenizer, metrics)
    fabric.barrier()
    return metrics


def configure(config: PretrainConfig, tokenizer: Tokenizer) -> ModelConfig:
    """The model's configuration: the preset's, with this tokenizer's vocabulary and context for a block."""
    if config.init is not None:
        return ModelConfig.load(config.init)
    size = preset_of(config.preset, **config.model)
    context = max(size.context, config.block_size)
    changes = {**config.model, "vocab": len(tokenizer), "eos": tokenizer.eos, "context": context}
    return preset_of(config.preset, **changes)


def export(
    shape: ModelConfig, best: Path, folder: Path, tokenizer: Tokenizer, metrics: dict[str, Any]
) -> None:
    """Write the best weights seen as a checkpoint directory that `LLM.load` and transformers read."""
    model = GPT.empty(shape, device="cpu")
    load_best(best, model, inside="model.")
    save_checkpoint(model, folder)
    tokenizer.save(folder / "tokenizer.json")
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", "utf-8")
