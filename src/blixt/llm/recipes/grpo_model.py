"""A policy with its reference, and the loss of packed answers."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from blixt.fabric import Fabric
from blixt.llm.data import PackedBlock
from blixt.llm.lora import disable_adapters
from blixt.llm.losses import PolicyLoss, group_advantages, policy_loss
from blixt.llm.model import GPT
from blixt.llm.parallel import ContextParallel
from blixt.llm.recipes.align import apply_gradients, divisible
from blixt.llm.recipes.grpo_rollouts import Answer, Packing, pack_answers
from blixt.llm.recipes.training import Trained, copies, keep_buffers, packed_logprobs

if TYPE_CHECKING:
    from blixt.llm.recipes.grpo import GRPOConfig


class PolicyModel(Trained):
    """The policy and its loss as one module, because strategies see only what happens in `forward`.

    Args:
        model: The policy, with adapters, which are switched off for the reference, or with all weights
            trained.
        reference: A frozen copy; None for a policy with adapters, and where no reference holds.
        settings: The loss.
        temperature: That the answers were drawn with.
        cp: Divides sequences among ranks; None keeps them whole.
    """

    def __init__(
        self,
        model: GPT,
        reference: GPT | None,
        settings: PolicyLoss,
        temperature: float,
        cp: ContextParallel | None = None,
    ) -> None:
        super().__init__()
        self.cp = cp
        self.model, self.reference = model, reference
        self.settings, self.temperature = settings, temperature
        keep_buffers(self)

    def forward(
        self,
        block: PackedBlock,
        sequences: Tensor,
        advantages: Tensor,
        old: Tensor | None,
        count: Tensor | float,
    ) -> Tensor:
        """Loss over `count`, and the KL estimate, the share of cut ratios and the ratio, means over tokens.

        Args:
            block: (B, T), see `pack_answers`.
            sequences: Number of each token's answer, (B, T).
            advantages: Of each answer, (answers,).
            old: Log-probabilities under the policy that wrote the answers, (B, T); None when this is it.
            count: Tokens or answers of the whole step.

        Returns:
            (4,).
        """
        new = self._of(self.model, block)
        ref = None
        if self.settings.beta:
            with torch.no_grad(), nullcontext() if self.reference else disable_adapters(self.model):
                ref = self._of(self.reference or self.model, block)
        before = new.detach() if old is None else old
        terms = policy_loss(
            new, before, advantages, block.mask, sequences, self.settings, ref=ref, count=count
        )
        return torch.stack([part.float() for part in terms])

    @torch.no_grad()
    def logprobs(self, block: PackedBlock) -> Tensor:
        """Of the answers' tokens under the policy as it is, (B, T)."""
        return self._of(self.model, block)

    def _of(self, model: GPT, block: PackedBlock) -> Tensor:
        return packed_logprobs(model, block, temperature=self.temperature, cp=self.cp)


def learn(
    fabric: Fabric,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    config: "GRPOConfig",
    answers: Sequence[Answer],
    rewards: Tensor,
) -> dict[str, float]:
    """The optimizer steps on one batch of answers.

    Args:
        fabric: Launched.
        model: A `PolicyModel` that was set up, with `logprobs` marked.
        optimizers: Of its parameters, set up.
        config: The run's.
        answers: This rank's, a prompt's side by side.
        rewards: Of each.

    Returns:
        What tells how it goes, over all ranks.
    """
    advantages = group_advantages(rewards, config.group, scale=config.scale_advantages).to(fabric.device)
    learned = [answer.complete or not config.drop_cut for answer in answers]
    packing = packed(fabric, config, answers, learned)
    here = packing.tokens if config.loss.average == "tokens" else sum(learned)
    total = fabric.all_reduce(torch.tensor(float(here), device=fabric.device), "sum")
    count = (total / copies(fabric)).clamp(min=1)
    old: list[Tensor | None] = [None] * len(packing.blocks)
    if config.updates > 1:
        old = [cast("Any", model).logprobs(block.to(fabric.device)) for block in packing.blocks]
    facts = torch.zeros(4, device=fabric.device)
    for _ in range(config.updates):
        for index, (block, sequences) in enumerate(zip(packing.blocks, packing.sequences, strict=True)):
            block, sequences = block.to(fabric.device), sequences.to(fabric.device)
            with fabric.no_backward_sync(model, enabled=index < len(packing.blocks) - 1):
                # Gradients are averaged over the ranks, while losses are to be summed.
                share = count / fabric.strategy.data_parallel_size
                terms = model(block, sequences, advantages, old[index], share)
                fabric.backward(terms[0])
            part = float(block.mask.sum()) / max(1, packing.tokens)
            facts += terms.detach() * torch.tensor([1.0, part, part, part], device=fabric.device)
        apply_gradients(fabric, model, optimizers, config.optim.clip)
    return told(fabric, answers, rewards.view(-1, config.group), facts / config.updates)


def packed(
    fabric: Fabric, config: "GRPOConfig", answers: Sequence[Answer], learned: Sequence[bool]
) -> Packing:
    """This rank's micro-batches, as many as any rank has, because all take part in each gradient."""
    length = config.block_size or divisible(config.max_prompt + config.max_tokens, config.parallel.cp)
    packing = pack_answers(answers, learned, length, config.micro_batch_size)
    most = int(fabric.all_reduce(torch.tensor(len(packing.blocks), device=fabric.device), "max"))
    return packing.filled(most)


def told(fabric: Fabric, answers: Sequence[Answer], rewards: Tensor, facts: Tensor) -> dict[str, float]:
    """Means over all ranks; `mixed` is the share of groups that teach something, `cut` of cut answers."""
    own = {
        "reward": float(rewards.mean()),
        "mixed": float((rewards.std(-1) > 0).float().mean()),
        "length": sum(len(answer.ids) for answer in answers) / len(answers),
        "cut": sum(not answer.complete for answer in answers) / len(answers),
        **dict(zip(("loss", "kl", "clipped", "ratio"), map(float, facts), strict=True)),
    }
    means = fabric.all_reduce(torch.tensor(list(own.values()), device=fabric.device), "mean")
    return dict(zip(own, map(float, means), strict=True))
