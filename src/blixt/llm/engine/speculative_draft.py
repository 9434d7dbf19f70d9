"""Guesses of a smaller model with the same vocabulary."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from blixt.llm.engine.speculative import Asked, Pace, Proposal
from blixt.llm.sampling import Sampling

if TYPE_CHECKING:
    from blixt.llm.engine.engine_config import EngineConfig
    from blixt.llm.model import GPT


class DraftProposer:
    """Lets a smaller model write the next tokens, always its likeliest.

    It has an engine of its own, whose prefix cache keeps what it has read of each request, so it reads only
    what is new, for all requests in one batch.

    Args:
        model: The draft model, in evaluation mode; its tokens must mean what the target's mean.
        k: Most tokens to guess.
        vocab: The target's vocabulary; a guess outside it ends a proposal. The draft's by default.
        config: Of the draft's engine; small blocks by default, as the last one is always read again.
    """

    def __init__(
        self, model: "GPT", k: int = 4, *, vocab: int | None = None, config: "EngineConfig | None" = None
    ) -> None:
        from blixt.llm.engine.engine import Engine
        from blixt.llm.engine.engine_config import EngineConfig

        self._engine = Engine(model, None, config or EngineConfig(max_batch=64, block_size=8))
        self._k, self._vocab = k, vocab or model.config.vocab
        self._paces: dict[str, Pace] = {}

    def propose_batch(self, asked: Sequence[Asked]) -> list[Proposal]:
        """Guess for several requests, in their order."""
        guessed: dict[str, list[int]] = {uid: [] for uid, _, _ in asked}
        for uid, tokens, limit in asked:
            pace = self._paces.setdefault(uid, Pace(self._k))
            count = min(limit, pace.next(tokens), self._engine.room - len(tokens))
            if count > 0 and max(tokens) < self._engine.model.config.vocab:
                sampling = Sampling(max_tokens=count, temperature=0, ignore_eos=True)
                self._engine.add(tokens, sampling, uid=uid)
        while self._engine.has_work:
            for update in self._engine.step():
                guessed[update.uid] += update.tokens
        for uid, tokens, _ in asked:
            guessed[uid] = self._known(guessed[uid])
            self._paces[uid].note(tokens, guessed[uid])
        return [Proposal(guessed[uid]) for uid, _, _ in asked]

    def forget(self, uid: str) -> None:
        """The request has ended."""
        self._paces.pop(uid, None)

    def _known(self, tokens: list[int]) -> list[int]:
        end = next((i for i, token in enumerate(tokens) if token >= self._vocab), len(tokens))
        return tokens[:end]
