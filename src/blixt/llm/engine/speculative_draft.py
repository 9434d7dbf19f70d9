"""Guesses of a smaller model with the same vocabulary."""

from collections.abc import Sequence

import torch
from torch import Tensor

from blixt.llm.engine.engine import Engine
from blixt.llm.engine.engine_config import EngineConfig
from blixt.llm.engine.engine_draw import Draw
from blixt.llm.engine.runner import rows_wanted
from blixt.llm.engine.sampler import Row, probabilities
from blixt.llm.engine.scheduler import Slice
from blixt.llm.engine.speculative import Asked, Pace, Proposal
from blixt.llm.model import GPT
from blixt.llm.sampling import Sampling

GREEDY = Sampling(temperature=0)
_SEED_BITS = 32  # of a guess's seed, for its place


class DraftProposer:
    """Lets a smaller model write the next tokens.

    It has an engine of its own, whose prefix cache keeps what it has read of each request, so it reads only
    what is new, for all requests in one batch.

    Args:
        model: The draft model, in evaluation mode; its tokens must mean what the target's mean.
        k: Most tokens to guess.
        vocab: The target's vocabulary; a guess outside it ends a proposal. The draft's by default.
        config: Of the draft's engine; small blocks by default, as the last one is always read again.
        sampled: Draw the guesses for requests with a temperature, as they draw: more of them are accepted,
            and the text is another sample of the same distribution than without guessing. Otherwise guesses
            are the likeliest tokens, and a seed gives the same text with guessing and without.
    """

    def __init__(
        self,
        model: GPT,
        k: int = 4,
        *,
        vocab: int | None = None,
        config: EngineConfig | None = None,
        sampled: bool = False,
    ) -> None:
        config = config or EngineConfig(max_batch=64, block_size=8, speculate="off")
        self._engine = DraftEngine(model, None, config)
        self._k, self._vocab, self._sampled = k, vocab or model.config.vocab, sampled
        self._paces: dict[str, Pace] = {}
        self._known: dict[str, tuple[Sampling, int]] = {}

    def know(self, uid: str, sampling: Sampling, seed: int) -> None:
        """How a request draws."""
        if self._sampled and sampling.temperature > 0:
            self._known[uid] = (sampling, seed)

    def propose_batch(self, asked: Sequence[Asked]) -> list[Proposal]:
        """Guess for several requests, in their order."""
        guessed: dict[str, list[int]] = {uid: [] for uid, _, _ in asked}
        self._engine.sources.clear()
        for uid, tokens, limit in asked:
            pace = self._paces.setdefault(uid, Pace(self._k))
            count = min(limit, pace.next(tokens), self._engine.room - len(tokens))
            if count > 0 and max(tokens) < self._engine.model.config.vocab:
                self._engine.add(tokens, self._sampling(uid, len(tokens), count), uid=uid)
        while self._engine.has_work:
            for update in self._engine.step():
                guessed[update.uid] += update.tokens
        for uid, tokens, _ in asked:
            guessed[uid] = self._meant(guessed[uid])
            self._paces[uid].note(tokens, guessed[uid])
        return [Proposal(guessed[uid], self._source(uid, len(guessed[uid]))) for uid, _, _ in asked]

    def forget(self, uid: str) -> None:
        """The request has ended."""
        self._paces.pop(uid, None)
        self._known.pop(uid, None)

    def _sampling(self, uid: str, place: int, count: int) -> Sampling:
        """The request's own way of drawing, with draws that do not depend on the target's."""
        sampling, seed = self._known.get(uid, (GREEDY, 0))
        return Sampling(
            max_tokens=count,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            seed=((seed + 1) << _SEED_BITS) + place,
            ignore_eos=True,
        )

    def _source(self, uid: str, count: int) -> Tensor | None:
        """What `count` guesses were drawn from."""
        if uid not in self._known or not count:
            return None
        return torch.stack(self._engine.sources[uid][:count])

    def _meant(self, tokens: list[int]) -> list[int]:
        end = next((i for i, token in enumerate(tokens) if token >= self._vocab), len(tokens))
        return tokens[:end]


class DraftEngine(Engine):
    """An engine that remembers what it drew from.

    Attributes:
        sources: Of each request that draws, the probabilities (V,) of each of its tokens.
    """

    sources: dict[str, list[Tensor]]

    def __init__(self, model: GPT, tokenizer: None, config: EngineConfig) -> None:
        super().__init__(model, tokenizer, config)
        self.sources = {}

    @torch.inference_mode()
    def _draw(self, plan: Sequence[Slice], logits: Tensor) -> list[Draw]:
        at = 0
        for part in plan:
            at += len(rows_wanted(part))
            request = part.request
            if part.samples and request.sampling.temperature > 0:
                row = Row(request.sampling, request.seed, request.count, (), request.prompt_tokens)
                self.sources.setdefault(request.uid, []).append(probabilities(logits[at - 1 : at], [row])[0])
        return super()._draw(plan, logits)
