"""Answers to tasks from the engine, which works on the very weights that are trained, and their packing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from blixt.data.permute import mix_numbers, permute
from blixt.fabric import Fabric
from blixt.llm.data import (
    Encoded,
    PackedBlock,
    Task,
    best_fit,
    block_of,
    empty_block,
    load_examples,
    split,
    stack,
)
from blixt.llm.engine import Engine, EngineConfig
from blixt.llm.errors import RecipeError
from blixt.llm.model import GPT
from blixt.llm.recipes.adapt import adapt_model, load_base
from blixt.llm.recipes.rewards import Reward
from blixt.llm.recipes.training import data_ranks
from blixt.llm.sampling import Sampling
from blixt.llm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from blixt.llm.recipes.grpo import GRPOConfig


@dataclass(frozen=True)
class Answer:
    """What the policy said to a prompt.

    Attributes:
        prompt: The prompt's token ids.
        ids: The answer's, the end token included.
        text: The answer.
        complete: Whether it ended by itself.
    """

    prompt: list[int]
    ids: list[int]
    text: str
    complete: bool


class WholeCopy:
    """A whole policy beside one that ranks divide, because an engine writes with all of it.

    Every rank keeps one and calls `refresh` at the same time. Frozen weights are read once, from the file.

    Args:
        policy: Divided.
        config: The run's, which says what the policy was made of.
        device: Where answers are written.

    Attributes:
        model: The copy.
    """

    def __init__(self, policy: GPT, config: "GRPOConfig", device: torch.device) -> None:
        self.policy = policy
        # What a fresh adapter draws is overwritten.
        with cast("Any", torch.random).fork_rng(devices=[]):
            base = load_base(config.model, config.adapt, config.precision, config.quantize)
            self.model = adapt_model(base, config.adapt, config.lora).to(device).requires_grad_(False)

    @torch.no_grad()
    def refresh(self) -> None:
        """Gather the trained weights."""
        own = dict(self.model.named_parameters())
        for name, parameter in self.policy.named_parameters():
            if parameter.requires_grad:
                own[name].copy_(gathered(parameter, own[name].device))


def gathered(parameter: Tensor, device: torch.device) -> Tensor:
    """A whole tensor of what may be divided among ranks; all of them call it."""
    from torch.distributed.tensor import DTensor

    parameter = parameter.to(device)  # shards may rest in CPU memory
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


class Writer:
    """Writes answers with the policy's weights as they are at the moment.

    Args:
        policy: In whatever mode; it is put back into it. Or the whole copy of one that ranks divide.
        tokenizer: Its tokenizer.
        max_prompt: Longest prompt, in tokens.
        max_tokens: Longest answer.
        temperature: Of the draws; the loss divides by it, too.
        max_batch: Answers written at once.
    """

    def __init__(
        self,
        policy: GPT | WholeCopy,
        tokenizer: Tokenizer,
        *,
        max_prompt: int,
        max_tokens: int,
        temperature: float,
        max_batch: int,
    ) -> None:
        self.copy = policy if isinstance(policy, WholeCopy) else None
        self.policy = policy.model if isinstance(policy, WholeCopy) else policy
        self.max_tokens, self.temperature = max_tokens, temperature
        # The same bits in any batch, and weights laid out once and for all: a resumed run writes the same.
        config = EngineConfig(max_batch, context=max_prompt + max_tokens, batch_invariant=True)
        self.engine = Engine(self.policy, tokenizer, config)

    def write(self, prompts: Sequence[list[int]], seeds: Sequence[int], group: int) -> list[Answer]:
        """`group` answers to each prompt, side by side.

        Args:
            prompts: Token ids.
            seeds: One for each prompt: the same seed and weights give the same answers.
            group: Answers to a prompt.
        """
        sampling = Sampling(self.max_tokens, self.temperature, n=group)
        return self._run(prompts, [replace(sampling, seed=seed) for seed in seeds])

    def write_best(self, prompts: Sequence[list[int]]) -> list[Answer]:
        """The likeliest answer to each prompt."""
        return self._run(prompts, [Sampling(self.max_tokens, temperature=0)] * len(prompts))

    def _run(self, prompts: Sequence[list[int]], samplings: Sequence[Sampling]) -> list[Answer]:
        training = self.policy.training
        self.policy.eval()
        if self.copy is not None:
            self.copy.refresh()
        self.engine.reset_cache()
        order: list[str] = []
        prompt_of: dict[str, list[int]] = {}
        for prompt, sampling in zip(prompts, samplings, strict=True):
            uid = self.engine.add(prompt, sampling)
            names = [uid] if sampling.n == 1 else [f"{uid}.{i}" for i in range(sampling.n)]
            order += names
            prompt_of |= dict.fromkeys(names, prompt)
        ids: dict[str, list[int]] = {uid: [] for uid in order}
        texts = dict.fromkeys(order, "")
        complete: dict[str, bool] = {}
        while self.engine.has_work:
            for update in self.engine.step():
                if update.finish_reason == "error":
                    raise RecipeError(f"an answer could not be written: {update.error}")
                ids[update.uid] += update.tokens
                texts[update.uid] += update.text
                if update.finish_reason is not None:
                    complete[update.uid] = update.finish_reason == "stop"
        self.policy.train(training)
        return [Answer(prompt_of[uid], ids[uid], texts[uid], complete[uid]) for uid in order]


@dataclass(frozen=True)
class Packing:
    """Answers as micro-batches.

    Attributes:
        blocks: Each (B, T), with the loss on the answers' tokens.
        sequences: For each block the number of every token's answer, -1 in padding and prompts of none.
        tokens: Answers' tokens in all blocks.
    """

    blocks: list[PackedBlock]
    sequences: list[Tensor]
    tokens: int

    def filled(self, count: int) -> "Packing":
        """The same with empty micro-batches at the end, `count` in all."""
        block, numbers = self.blocks[0], self.sequences[0]
        rows = stack([empty_block(block.tokens.shape[1])] * len(block.tokens))
        missing = count - len(self.blocks)
        nothing = [torch.full_like(numbers, -1)] * missing
        return replace(self, blocks=self.blocks + [rows] * missing, sequences=self.sequences + nothing)


def pack_answers(answers: Sequence[Answer], learned: Sequence[bool], length: int, rows: int) -> Packing:
    """Lay prompts with their answers side by side.

    Args:
        answers: All of this rank.
        learned: Which of them count.
        length: Places in a row.
        rows: Rows of a micro-batch; the last one is filled with empty ones.
    """
    units = [(_document(answer, count),) for answer, count in zip(answers, learned, strict=True)]
    bins = best_fit([unit[0].slots for unit in units], length)
    bins += [[]] * (-len(bins) % rows)
    blocks: list[PackedBlock] = []
    sequences: list[Tensor] = []
    for start in range(0, len(bins), rows):
        held = bins[start : start + rows]
        block = stack([block_of([units[i] for i in members], length) for members in held])
        numbers = torch.full_like(block.documents, -1)
        for row, members in enumerate(held):
            inside = block.documents[row] >= 0
            numbers[row][inside] = torch.tensor(members, dtype=torch.int64)[block.documents[row][inside]]
        blocks.append(block)
        sequences.append(numbers)
    return Packing(blocks, sequences, sum(int(block.mask.sum()) for block in blocks))


def load_tasks(config: "GRPOConfig") -> tuple[list[Task], list[Task]]:
    """Tasks to learn from, and those held out."""
    tasks = cast("list[Task]", load_examples(config.data, "task"))
    if config.val_data:
        return tasks, cast("list[Task]", load_examples(config.val_data, "task"))
    return split(tasks, config.val_fraction, seed=config.seed)


def judge(
    fabric: Fabric, writer: Writer, tasks: Sequence[Task], prompts: Sequence[list[int]], reward: Reward
) -> float:
    """Mean reward of the likeliest answers, each rank writing its share."""
    sums = torch.zeros(2, dtype=torch.float64, device=fabric.device)
    rank, ranks = data_ranks(fabric)
    mine = range(rank, len(tasks), ranks)
    answers = writer.write_best([prompts[i] for i in mine])
    sums[0] = sum(reward(tasks[i], answer.text) for i, answer in zip(mine, answers, strict=True))
    sums[1] = len(mine)
    total = fabric.all_reduce(sums, "sum")
    return float(total[0] / total[1].clamp(min=1))


def tasks_of_step(step: int, tasks: int, each: int, seed: int) -> list[int]:
    """Which tasks a step has: a walk through all of them in an order that changes each time round.

    Args:
        step: From 0.
        tasks: How many there are.
        each: How many a step takes.
        seed: Names the order.

    Example:
        >>> sorted(tasks_of_step(0, 4, 2, seed=1) + tasks_of_step(1, 4, 2, seed=1))
        [0, 1, 2, 3]
    """
    found: list[int] = []
    for place in range(step * each, (step + 1) * each):
        epoch, index = divmod(place, tasks)
        found.append(int(permute(np.array([index]), tasks, mix_numbers(seed, epoch))[0]))
    return found


def seed_of(seed: int, step: int, place: int) -> int:
    """The seed of one prompt's answers, whichever rank writes them."""
    return mix_numbers(seed, step, place) >> 2


def check_prompts(tasks: Sequence[Task], prompts: Sequence[list[int]], longest: int) -> None:
    """Refuse prompts that do not fit.

    Raises:
        RecipeError: One is longer than `longest` or empty; its row is named.
    """
    for task, prompt in zip(tasks, prompts, strict=True):
        if not 0 < len(prompt) <= longest:
            raise RecipeError(
                f"the prompt of {task.origin} has {len(prompt)} tokens: it takes 1 to max_prompt={longest}"
            )


def _document(answer: Answer, learned: bool) -> Encoded:
    ids = np.array(answer.prompt + answer.ids, np.int32)
    return Encoded(ids, (np.arange(len(ids)) >= len(answer.prompt)) & learned)
