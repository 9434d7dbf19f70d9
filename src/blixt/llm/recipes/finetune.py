"""Finetune a decoder on chats, instructions or texts: all weights, LoRA, DoRA or QLoRA by one switch.

Read it from the bottom: `run` is the whole recipe. Documents are packed into full blocks that do not see
each other, the loss is on what the assistant says, every token counts alike however it is divided among
micro-batches and ranks. It resumes by itself: started again it goes on at the next step.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from blixt.fabric import seed_everything
from blixt.llm.errors import RecipeError
from blixt.llm.lora import LoRAConfig
from blixt.llm.parallel import ParallelConfig, prepare_blocks
from blixt.llm.recipes.adapt import Adapt, Scheme, adapt_model, base_config, export, load_base
from blixt.llm.recipes.config import read, show
from blixt.llm.recipes.finetune_data import Data
from blixt.llm.recipes.identity import changeable, identity
from blixt.llm.recipes.optim import OptimConfig, make_optimizers, make_schedule, set_learning_rate
from blixt.llm.recipes.report import LogConfig, Report, flops_per_token
from blixt.llm.recipes.resume import Checkpoints, ResumeConfig, TrainState, save_best, stopping
from blixt.llm.recipes.room import check_room
from blixt.llm.recipes.training import (
    LossModel,
    chat_encoder,
    context_parallel,
    data_ranks,
    evaluate,
    micro_batches,
    show_samples,
    start,
    train_step,
)
from blixt.llm.tokenizer import Tokenizer


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of finetuning.

    Attributes:
        model: The base: a checkpoint directory or a .gguf file.
        data: Examples: a file or folder of .jsonl, .json, .parquet or .txt, or a dataset's address.
        data_kind: auto, or what the examples are: text, chat, instruction or completion.
        val_data: Examples to measure on; none takes a share of `data`.
        val_fraction: That share; 0 measures nothing.
        out: Directory for the model, or the adapter and the merged model.
        adapt: What is trained: full, lora, dora or qlora.
        lora: Shape of the adapter.
        quantize: Number format of the frozen weights of qlora: nf4, int8, int4 or fp8; none is nf4.
        merge: Write the whole model beside the adapter.
        learn: answers puts the loss on what the assistant says, all on prompts, too.
        epochs: Rounds over the data.
        steps: Optimizer steps; none follows from the epochs.
        batch_size: Blocks a step, over all ranks.
        micro_batch_size: Blocks that a rank computes at once; 0 is all of its share.
        block_size: Tokens a block; longer examples are cut.
        pack: Put several examples into a block; false pads one to each.
        precision: 32-true, bf16-mixed, bf16-true and others that Fabric knows.
        seed: Of adapters, order and dropout.
        val_every: Steps between two measurements; 0 only at the beginning and the end.
        val_batches: How many batches such a measurement takes at most.
        optim: The optimizer.
        parallel: Devices and how they share the work.
        log: Where numbers and sample texts go.
        checkpoint: What a restart resumes from.
    """

    recipe: ClassVar[str] = "finetune"

    model: str
    data: str
    data_kind: str = "auto"
    val_data: str | None = None
    val_fraction: float = 0.05
    out: str = "finetuned"
    adapt: Adapt = "lora"
    lora: LoRAConfig = field(default_factory=lambda: LoRAConfig(r=16, alpha=32))
    quantize: Scheme | None = None
    merge: bool = True
    learn: Literal["answers", "all"] = "answers"
    epochs: int = 1
    steps: int | None = None
    batch_size: int = 8
    micro_batch_size: int = 0
    block_size: int = 1024
    pack: bool = True
    precision: str = "32"
    seed: int = 0
    val_every: int = 50
    val_batches: int = 32
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(learning_rate=2e-4, weight_decay=0.0))
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    log: LogConfig = field(default_factory=LogConfig)
    checkpoint: ResumeConfig = field(default_factory=ResumeConfig)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "block_size", "val_batches"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} is {getattr(self, name)}: it is at least 1")


def finetune(
    model: str | Path, data: str | Path, out: str | Path = "finetuned", **more: Any
) -> dict[str, Any]:
    """Finetune a model on examples.

    Args:
        model: The base: a checkpoint directory or a `.gguf` file.
        data: Examples, see `blixt.llm.data.load_examples`.
        out: Directory for the result: the model, for adapters merged, with the adapter in `adapter/`.
        **more: Other settings of `FinetuneConfig`, dotted ones too: `adapt="qlora", **{"lora.r": 8}`.

    Returns:
        `loss` of the last step, `val_loss` (the best) and `first_val_loss` or None, `steps`, `tokens`,
        `parameters`, `trained`, and `fill`, the share of the blocks' places that holds a token.

    Raises:
        LLMError: A setting, the data or the model is wrong.

    Example:
        ```python
        finetune("SmolLM2-135M-Instruct", "chats.jsonl", "tuned", adapt="lora", epochs=2)
        ```
    """
    return run(read(FinetuneConfig, (), {"model": str(model), "data": str(data), "out": str(out), **more}))


def run(config: FinetuneConfig) -> dict[str, Any]:
    """Finetune as the settings say; returns what `finetune` returns."""
    kept = Path(config.checkpoint.dir or Path(config.out) / "checkpoints")
    shape, tokenizer = base_config(config.model), Tokenizer.load(config.model)
    fabric = start(config.parallel, config.precision, config.log, kept)
    seed_everything(config.seed)
    data = Data(config, tokenizer, *data_ranks(fabric))
    steps = config.steps or data.train.steps_left()

    check_room(fabric, config, shape, data.micro_batch, config.block_size, adapted=config)
    base = load_base(config.model, config.adapt, config.precision, config.quantize)
    decoder = adapt_model(base, config.adapt, config.lora)
    flops = flops_per_token(decoder, shape, config.block_size)
    sizes = [(p.numel(), p.requires_grad) for p in decoder.parameters()]
    cp = context_parallel(fabric, config.parallel, packed=True)
    model = fabric.setup_module(prepare_blocks(LossModel(decoder, cp=cp), config.parallel))
    model.mark_forward_method("next_logits")
    optimizers = [fabric.setup_optimizers(optimizer) for optimizer in make_optimizers(model, config.optim)]
    schedule = make_schedule(config.optim, steps)

    state = TrainState(model, optimizers, data.train)
    own = identity(config, steps=steps)
    checkpoints = Checkpoints(fabric, kept, config.checkpoint, own, config.seed, changeable(config))
    progress = checkpoints.restore(state) or {
        "step": 0,
        "best": None,
        "first": None,
        "loss": None,
        "tokens": 0,
    }
    report = Report(fabric, config.log, steps, flops)
    report.say(checkpoints.going_on or show(config))
    report.say(f"{data.report}; blocks are {data.fill:.0%} full")

    def look(step: int) -> None:
        """Measure, and read what the model writes, where it is due."""
        ends = step in (0, steps)
        if data.val is not None and (ends or (config.val_every and step % config.val_every == 0)):
            measured = evaluate(fabric, model, data.held_out(), config.parallel.tp)
            report.log(step, {"val_loss": measured})
            progress["first"] = measured if step == 0 else progress["first"]
            if step and (progress["best"] is None or measured < progress["best"]):
                progress["best"] = measured
                save_best(fabric, kept / "best.ckpt", state)
        show_samples(report, step, model, tokenizer, chat_encoder(tokenizer))

    with stopping(fabric, progress["step"], config.checkpoint.stop_after_s) as stop:
        if progress["step"] == 0:
            with report.aside():
                look(0)
        batches, tokens = iter(data.train), progress["tokens"]
        for step in range(progress["step"] + 1, steps + 1):
            rate = config.optim.learning_rate * schedule(step - 1)
            set_learning_rate(optimizers, rate)
            blocks = micro_batches(next(batches), data.micro_batch)
            done = train_step(
                fabric, model, optimizers, blocks, tp=config.parallel.tp, clip=config.optim.clip
            )
            report.step(step, done.tokens, loss=done.loss, learning_rate=rate, grad_norm=done.norm)
            progress["step"] = step
            tokens = tokens + done.tokens
            with report.aside():
                look(step)
                leaves = stop.due(step)
                if leaves or checkpoints.due(step, steps):
                    progress |= {"loss": float(done.loss), "tokens": int(tokens)}
                    checkpoints.save(step, state, progress)
            if leaves:
                report.say(f"stopped after step {step} ({stop.requested})")
                break

    report.close()
    if progress["best"] is None:
        save_best(fabric, kept / "best.ckpt", state)
    metrics = {
        "loss": progress["loss"],
        "val_loss": progress["best"],
        "first_val_loss": progress["first"],
        "steps": progress["step"],
        "tokens": progress["tokens"],
        "parameters": sum(size for size, _ in sizes),
        "trained": sum(size for size, trained in sizes if trained),
        "fill": data.fill,
    }
    if fabric.is_global_zero:
        best, how = kept / "best.ckpt", config.adapt
        export(config.model, best, config.out, tokenizer, metrics, how, config.lora, merged=config.merge)
    fabric.barrier()
    return metrics
