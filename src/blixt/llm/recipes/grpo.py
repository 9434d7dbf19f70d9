"""Learn from rewards: a checkpoint and tasks in, a checkpoint that solves more of them out.

Each step the engine, in this process and on these weights, writes a group of answers to some prompts; rewards
judge them; the policy moves towards those that were better than their group. Read it from the bottom: `run`
is the whole recipe. It resumes by itself: prompts and draws follow from the seed and the step.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from blixt.fabric import seed_everything
from blixt.llm.data import prompt_ids
from blixt.llm.errors import RecipeError
from blixt.llm.lora import LoRAConfig
from blixt.llm.losses import PolicyLoss
from blixt.llm.parallel import ParallelConfig, prepare_blocks
from blixt.llm.recipes.adapt import Adapt, Scheme, adapt_model, base_config, export, load_base
from blixt.llm.recipes.align import load_frozen
from blixt.llm.recipes.config import read, show
from blixt.llm.recipes.grpo_model import PolicyModel, learn
from blixt.llm.recipes.grpo_rollouts import (
    WholeCopy,
    Writer,
    check_prompts,
    judge,
    load_tasks,
    seed_of,
    tasks_of_step,
)
from blixt.llm.recipes.identity import changeable, digest, identity
from blixt.llm.recipes.optim import OptimConfig, make_optimizers, make_schedule, set_learning_rate
from blixt.llm.recipes.report import LogConfig, Report, flops_per_token
from blixt.llm.recipes.resume import Checkpoints, ResumeConfig, TrainState, save_best, stopping
from blixt.llm.recipes.rewards import RewardConfig, make_reward
from blixt.llm.recipes.room import check_room
from blixt.llm.recipes.training import (
    chat_encoder,
    context_parallel,
    copies,
    data_ranks,
    show_samples,
    start,
)
from blixt.llm.tokenizer import Tokenizer


@dataclass(frozen=True)
class GRPOConfig:
    """Settings of training on rewards.

    Attributes:
        model: Checkpoint directory or .gguf file to begin with; also the reference.
        data: Tasks: rows with a prompt (text or messages) and the fields that rewards compare with.
        rewards: What an answer is worth; the weighted sum of these.
        val_data: Held-out tasks; none takes a share of `data`.
        val_fraction: That share.
        out: Directory for what was trained.
        adapt: What is trained: full, lora, dora or qlora.
        lora: Shape of the adapter.
        quantize: Number format of the frozen weights of qlora: nf4, int8, int4 or fp8; none is nf4.
        merge: Write the whole model beside the adapter.
        steps: Batches of answers that are written and learned from.
        prompts: Prompts a step, over all ranks.
        group: Answers to each.
        updates: Optimizer steps on each batch of answers.
        temperature: Of the draws.
        max_prompt: Longest prompt in tokens; a longer one is refused.
        max_tokens: Longest answer in tokens.
        max_batch: Answers written at once on a rank.
        loss: Clipping, KL to the reference, and how tokens are averaged.
        scale_advantages: Divide by the group's standard deviation (GRPO); false is Dr. GRPO's.
        drop_cut: Learn nothing from answers that were cut off at `max_tokens`.
        block_size: Places in a packed row; 0 is as many as the longest prompt and answer may take.
        micro_batch_size: Rows that a rank computes at once.
        precision: 32-true, bf16-mixed, bf16-true and others that Fabric knows.
        seed: Of prompts, draws and adapters.
        val_every: Steps between two measurements on held-out tasks; 0 is only before and after.
        optim: The optimizer.
        parallel: Devices and how they share the work. Where that divides the model, each rank also keeps a
            whole copy to write answers with, which gets the trained weights before each batch.
        log: Where numbers go.
        checkpoint: What a restart resumes from.
    """

    recipe: ClassVar[str] = "grpo"

    model: str
    data: str
    rewards: tuple[RewardConfig, ...]
    val_data: str | None = None
    val_fraction: float = 0.1
    out: str = "aligned"
    adapt: Adapt = "lora"
    lora: LoRAConfig = field(default_factory=lambda: LoRAConfig(r=16, alpha=32))
    quantize: Scheme | None = None
    merge: bool = True
    steps: int = 100
    prompts: int = 8
    group: int = 8
    updates: int = 1
    temperature: float = 1.0
    max_prompt: int = 512
    max_tokens: int = 128
    max_batch: int = 64
    loss: PolicyLoss = field(default_factory=PolicyLoss)
    scale_advantages: bool = True
    drop_cut: bool = False
    block_size: int = 0
    micro_batch_size: int = 4
    precision: str = "32"
    seed: int = 0
    val_every: int = 0
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(learning_rate=1e-5, weight_decay=0.0, schedule="constant")
    )
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    log: LogConfig = field(default_factory=LogConfig)
    checkpoint: ResumeConfig = field(default_factory=ResumeConfig)

    def __post_init__(self) -> None:
        if self.group < 2:
            raise RecipeError(f"group={self.group}: an answer is compared with others, so give 2 or more")
        for name in ("steps", "prompts", "updates", "max_tokens", "max_prompt", "micro_batch_size"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} is {getattr(self, name)}: it is at least 1")


def grpo(
    model: str | Path, data: str | Path, rewards: list[dict[str, Any]], **settings: Any
) -> dict[str, Any]:
    """Train a model on rewards.

    Args:
        model: Checkpoint directory or `.gguf` file.
        data: The tasks, see `GRPOConfig`.
        rewards: Settings of `RewardConfig`, one mapping for each part.
        **settings: Other settings of `GRPOConfig`, dotted: `**{"loss.beta": 0.04}`.

    Returns:
        `reward` of the likeliest answers to held-out tasks, and `first_reward` before training; `steps`,
        `answers`, `tokens`.

    Raises:
        LLMError: A setting, the data or the model is wrong.
    """
    return run(read(GRPOConfig, (), {"model": str(model), "data": str(data), "rewards": rewards, **settings}))


def run(config: GRPOConfig) -> dict[str, Any]:
    """Train as the settings say; returns what `grpo` returns."""
    kept = Path(config.checkpoint.dir or Path(config.out) / "checkpoints")
    tokenizer, shape = Tokenizer.load(config.model), base_config(config.model)
    reward = make_reward(config.rewards)
    tasks, held_out = load_tasks(config)
    prompts, val_prompts = ([prompt_ids(task, tokenizer) for task in part] for part in (tasks, held_out))
    check_prompts([*tasks, *held_out], [*prompts, *val_prompts], config.max_prompt)
    fabric = start(config.parallel, config.precision, config.log, kept)
    rank, ranks = data_ranks(fabric)
    if config.prompts % ranks:
        raise RecipeError(f"prompts={config.prompts} does not divide evenly among {ranks} ranks")
    seed_everything(config.seed)
    copied = config.adapt == "full" and config.loss.beta > 0
    also = [(shape, "float32")] * copied
    length = config.block_size or config.max_prompt + config.max_tokens
    check_room(fabric, config, shape, config.micro_batch_size, length, *also, adapted=config)
    base = load_base(config.model, config.adapt, config.precision, config.quantize)
    policy = adapt_model(base, config.adapt, config.lora)
    reference = load_frozen(config.model, config.precision) if copied else None
    loss = replace(config.loss, length=config.loss.length or config.max_tokens)
    cp = context_parallel(fabric, config.parallel, packed=True)
    whole = PolicyModel(policy, reference, loss, config.temperature, cp)
    model = fabric.setup_module(prepare_blocks(whole, config.parallel))
    for method in ("logprobs", "next_logits"):
        model.mark_forward_method(method)
    optimizers = [fabric.setup_optimizers(optimizer) for optimizer in make_optimizers(model, config.optim)]
    writer = Writer(
        WholeCopy(policy, config, fabric.device) if config.parallel.sharded else policy,
        tokenizer,
        max_prompt=config.max_prompt,
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        max_batch=config.max_batch,
    )
    schedule = make_schedule(config.optim, config.steps)
    state = TrainState(model, optimizers)
    own = identity(config, steps=config.steps, tasks=digest(prompts, [task.fields for task in tasks]))
    checkpoints = Checkpoints(fabric, kept, config.checkpoint, own, config.seed, changeable(config))
    progress = checkpoints.restore(state) or {"step": 0, "answers": 0, "tokens": 0}
    report = Report(fabric, config.log, config.steps, flops_per_token(policy, shape, config.max_tokens))
    report.say(checkpoints.going_on or show(config))
    encode = chat_encoder(tokenizer)
    if not progress["step"]:
        progress["first"] = judge(fabric, writer, held_out, val_prompts, reward)
        report.log(0, {"val_reward": progress["first"]})
        show_samples(report, 0, model, tokenizer, encode)

    with stopping(fabric, progress["step"], config.checkpoint.stop_after_s) as stop:
        for step in range(progress["step"] + 1, config.steps + 1):
            rate = config.optim.learning_rate * schedule(step - 1)
            set_learning_rate(optimizers, rate)
            chosen = tasks_of_step(step - 1, len(tasks), config.prompts, config.seed)
            places = range(rank, config.prompts, ranks)
            seeds = [seed_of(config.seed, step, place) for place in places]
            answers = writer.write([prompts[chosen[place]] for place in places], seeds, config.group)
            asked = [tasks[chosen[place]] for place in places for _ in range(config.group)]
            rewards = torch.tensor([reward(task, a.text) for task, a in zip(asked, answers, strict=True)])
            facts = learn(fabric, model, optimizers, config, answers, rewards)
            written = torch.tensor([len(a.ids) for a in answers]).sum()
            total = fabric.all_reduce(written, "sum") // copies(fabric)
            progress["tokens"] += int(total)
            progress |= {"step": step, "answers": progress["answers"] + config.prompts * config.group}
            report.step(step, int(total), **facts, learning_rate=rate)
            with report.aside():
                if config.val_every and step % config.val_every == 0 and step < config.steps:
                    report.log(step, {"val_reward": judge(fabric, writer, held_out, val_prompts, reward)})
                show_samples(report, step, model, tokenizer, encode)
                leaves = stop.due(step)
                if leaves or checkpoints.due(step, config.steps):
                    checkpoints.save(step, state, progress)
            if leaves:
                report.say(f"stopped after step {step} ({stop.requested})")
                break

    after = judge(fabric, writer, held_out, val_prompts, reward)
    report.log(progress["step"], {"val_reward": after})
    report.close()
    metrics = {"reward": after, "first_reward": progress.pop("first"), **progress}
    metrics["steps"] = metrics.pop("step")
    save_best(fabric, kept / "last.ckpt", state)
    if fabric.is_global_zero:
        last, how = kept / "last.ckpt", config.adapt
        export(config.model, last, config.out, tokenizer, metrics, how, config.lora, merged=config.merge)
    fabric.barrier()
    return metrics
