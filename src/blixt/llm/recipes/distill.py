"""Learn from a teacher: a large checkpoint, a small one and text in, a better small one out.

The teacher runs in this process and the student matches its probabilities at every loss position. A teacher
that cannot run here teaches by its answers: write them with any server and learn from them with `finetune`.
Read it from the bottom: `run` is the whole recipe. It resumes by itself.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from blixt.fabric import seed_everything
from blixt.llm.errors import RecipeError
from blixt.llm.lora import LoRAConfig
from blixt.llm.losses import Distillation
from blixt.llm.parallel import ParallelConfig, prepare_blocks
from blixt.llm.recipes.adapt import Adapt, Scheme, base_config, export
from blixt.llm.recipes.align import load_frozen, shares
from blixt.llm.recipes.config import read, show
from blixt.llm.recipes.distill_data import loaders, restarted
from blixt.llm.recipes.distill_model import StudentModel, export_fresh, make_student
from blixt.llm.recipes.identity import changeable, identity
from blixt.llm.recipes.optim import OptimConfig, make_optimizers, make_schedule, set_learning_rate
from blixt.llm.recipes.report import LogConfig, Report, flops_per_token
from blixt.llm.recipes.resume import Checkpoints, ResumeConfig, TrainState, save_best, stopping
from blixt.llm.recipes.room import check_room
from blixt.llm.recipes.training import (
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
class DistillConfig:
    """Settings of distillation.

    Attributes:
        teacher: Checkpoint directory or .gguf file of the teacher; its tokenizer is the student's.
        data: What to read together: examples as `load_examples` reads them, or a folder that `prepare` wrote.
        model: Checkpoint directory of the student; none makes a fresh one.
        preset: Size of a fresh student, see `blixt.llm.PRESETS`.
        sizes: Changes to the preset's fields, such as {layers: 8}.
        data_kind: auto, or the kind of the rows.
        val_data: Held-out examples; none takes a share of `data` (or the val part of a prepared folder).
        val_fraction: That share.
        learn: answers, or all for prompts, too.
        out: Directory for the student.
        adapt: What is trained: full, lora, dora or qlora.
        lora: Shape of the adapter.
        quantize: Number format of the frozen weights of qlora: nf4, int8, int4 or fp8; none is nf4.
        merge: Write the whole model beside the adapter.
        loss: The divergence, its temperature, how many tokens it looks at, and the share of cross-entropy.
        block_size: Places in a packed row.
        epochs: Passes over the data.
        steps: Optimizer steps; none follows from `epochs`.
        batch_size: Rows a step, over all ranks.
        micro_batch_size: Rows that a rank computes at once; 0 is all of its share.
        precision: 32-true, bf16-mixed, bf16-true and others that Fabric knows.
        seed: Of data order, fresh weights and adapters.
        val_every: Steps between two measurements; 0 is only at the end.
        optim: The optimizer.
        parallel: Devices and how they share the work.
        log: Where numbers go.
        checkpoint: What a restart resumes from.
    """

    recipe: ClassVar[str] = "distill"

    teacher: str
    data: str
    model: str | None = None
    preset: str = "demo"
    sizes: dict[str, Any] = field(default_factory=dict[str, Any])
    data_kind: Literal["auto", "text", "chat", "instruction", "completion"] = "auto"
    val_data: str | None = None
    val_fraction: float = 0.05
    learn: Literal["answers", "all"] = "answers"
    out: str = "student"
    adapt: Adapt = "full"
    lora: LoRAConfig = field(default_factory=lambda: LoRAConfig(r=16, alpha=32))
    quantize: Scheme | None = None
    merge: bool = True
    loss: Distillation = field(default_factory=Distillation)
    block_size: int = 512
    epochs: int = 1
    steps: int | None = None
    batch_size: int = 8
    micro_batch_size: int = 0
    precision: str = "32"
    seed: int = 0
    val_every: int = 0
    optim: OptimConfig = field(default_factory=OptimConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    log: LogConfig = field(default_factory=LogConfig)
    checkpoint: ResumeConfig = field(default_factory=ResumeConfig)

    def __post_init__(self) -> None:
        if self.loss.temperature <= 0 or not 0 <= self.loss.hard <= 1 or not 0 < self.loss.jsd_weight < 1:
            raise RecipeError("loss: temperature is above 0, hard from 0 to 1, jsd_weight between 0 and 1")


def distill(teacher: str | Path, data: str | Path, **settings: Any) -> dict[str, Any]:
    """Train a student on a teacher's probabilities.

    Args:
        teacher: Checkpoint directory or `.gguf` file.
        data: What both read, see `DistillConfig`.
        **settings: Other settings of `DistillConfig`, dotted: `**{"loss.temperature": 2}`.

    Returns:
        `val_loss`, the student's cross-entropy on held-out data in nats a token, and `first_val_loss`;
        `steps`, `parameters`.

    Raises:
        LLMError: A setting, the data or a model is wrong.
    """
    return run(read(DistillConfig, (), {"teacher": str(teacher), "data": str(data), **settings}))


def run(config: DistillConfig) -> dict[str, Any]:
    """Train as the settings say; returns what `distill` returns."""
    kept = Path(config.checkpoint.dir or Path(config.out) / "checkpoints")
    tokenizer = Tokenizer.load(config.teacher)
    fabric = start(config.parallel, config.precision, config.log, kept)
    seed_everything(config.seed)
    student = make_student(config, tokenizer)
    _, micro = shares(config.batch_size, config.micro_batch_size, data_ranks(fabric)[1])
    taught = (base_config(config.teacher), "float32")
    check_room(fabric, config, student.config, micro, config.block_size, taught, adapted=config)
    teacher = load_frozen(config.teacher, config.precision)
    cp, tp = context_parallel(fabric, config.parallel, packed=True), config.parallel.tp
    whole = StudentModel(student, teacher, config.loss, cp)
    model = fabric.setup_module(prepare_blocks(whole, config.parallel))
    model.mark_forward_method("next_logits")
    optimizers = [fabric.setup_optimizers(optimizer) for optimizer in make_optimizers(model, config.optim)]

    train, held_out, said = loaders(config, tokenizer, *data_ranks(fabric))
    steps = config.steps or train.steps_left()
    schedule = make_schedule(config.optim, steps)
    state = TrainState(model, optimizers, train)
    own = identity(config, steps=steps)
    checkpoints = Checkpoints(fabric, kept, config.checkpoint, own, config.seed, changeable(config))
    progress = checkpoints.restore(state) or {"step": 0}
    report = Report(fabric, config.log, steps, flops_per_token(student, student.config, config.block_size))
    report.say(checkpoints.going_on or f"{show(config)}{said}")
    encode = chat_encoder(tokenizer)
    if not progress["step"]:
        progress["first"] = evaluate(fabric, model, restarted(held_out), tp)
        show_samples(report, 0, model, tokenizer, encode)

    batches = iter(train)
    with stopping(fabric, progress["step"], config.checkpoint.stop_after_s) as stop:
        for step in range(progress["step"] + 1, steps + 1):
            rate = config.optim.learning_rate * schedule(step - 1)
            set_learning_rate(optimizers, rate)
            blocks = micro_batches(next(batches), micro)
            done = train_step(fabric, model, optimizers, blocks, tp=tp, clip=config.optim.clip)
            progress["step"] = step
            report.step(step, done.tokens, loss=done.loss, learning_rate=rate, grad_norm=done.norm)
            with report.aside():
                if config.val_every and step % config.val_every == 0 and step < steps:
                    report.log(step, {"val_loss": evaluate(fabric, model, restarted(held_out), tp)})
                show_samples(report, step, model, tokenizer, encode)
                leaves = stop.due(step)
                if leaves or checkpoints.due(step, steps):
                    checkpoints.save(step, state, progress)
            if leaves:
                report.say(f"stopped after step {step} ({stop.requested})")
                break

    after = evaluate(fabric, model, restarted(held_out), tp)
    report.log(progress["step"], {"val_loss": after})
    report.close()
    metrics = {
        "val_loss": after,
        "first_val_loss": progress["first"],
        "steps": progress["step"],
        "parameters": sum(p.numel() for p in student.parameters()),
    }
    save_best(fabric, kept / "last.ckpt", state)
    if fabric.is_global_zero and config.model is not None:
        last, how = kept / "last.ckpt", config.adapt
        export(config.model, last, config.out, tokenizer, metrics, how, config.lora, merged=config.merge)
    elif fabric.is_global_zero:
        export_fresh(student.config, kept / "last.ckpt", config.out, tokenizer, metrics)
    fabric.barrier()
    return metrics
