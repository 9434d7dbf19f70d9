"""The engine: requests come in any order, every step computes some tokens for many of them."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from blixt.llm.engine.engine_build import (
    build_cache,
    make_graphs,
    make_proposer,
    make_speculation_stats,
    room,
)
from blixt.llm.engine.engine_config import EngineConfig
from blixt.llm.engine.engine_draw import Draw, draw_tokens, extend, note_prompt_logprobs
from blixt.llm.engine.metrics import Stats
from blixt.llm.engine.request import FinishReason, Request, Update, names
from blixt.llm.engine.runner import Runner, rows_wanted
from blixt.llm.engine.runner_layout import Layout
from blixt.llm.engine.runner_rope import regime
from blixt.llm.engine.scheduler import Scheduler, Slice
from blixt.llm.errors import PromptError
from blixt.llm.model import GPT
from blixt.llm.sampling import Sampling
from blixt.llm.tokenizer import Detokenizer, Tokenizer
from blixt.serve import StopFilter

if TYPE_CHECKING:
    from blixt.llm.engine.adapters import AdapterSet
    from blixt.llm.engine.grammar_state import GrammarState


class Engine:
    """Generates for many requests at once over a paged cache.

    One thread at a time may use it; `LLM` puts a lock around it. The weights are used as they are at each
    step, so a training loop may change them between steps: call `reset_cache` afterwards.

    Args:
        model: In evaluation mode, on its device.
        tokenizer: For `Update.text`, stop texts and formats; without one there are only ids.
        config: Sizes and switches.
        adapters: LoRA adapters that requests may name.
        clock: For the metrics, in seconds.

    Attributes:
        room: Most tokens of one request, prompt and answer.
        eos: Ids that end an answer: the model's and the tokenizer's.

    Example:
        ```python
        engine = Engine(model, tokenizer)
        uid = engine.add(tokenizer.encode("The capital of France is"), Sampling(temperature=0, max_tokens=8))
        while engine.has_work:
            for update in engine.step():
                print(update.text, end="")
        ```
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer | None = None,
        config: EngineConfig | None = None,
        *,
        adapters: "AdapterSet | None" = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.config = config = config or EngineConfig()
        self.adapters = adapters
        self._clock = clock
        self.blocks, cache = build_cache(model.config, config, model.embed.weight)
        self.scheduler = Scheduler(
            self.blocks, config.max_batch, config.max_tokens_per_step, config.max_waiting
        )
        layout = Layout(model, batch_invariant=config.batch_invariant)
        groups = self.blocks.groups
        graphs = make_graphs(model, config, cache, groups)
        self.runner = Runner(model, cache, groups, layout, adapters, graphs)
        ends = tokenizer.eos if tokenizer is not None else ()
        self.eos = tuple(dict.fromkeys((*model.config.eos, *ends)))
        self.room = room(model.config, config, self.blocks)
        self._proposer = make_proposer(model, config)
        self._speculation = make_speculation_stats(self._proposer)
        self._requests: dict[str, Request] = {}
        self._ended: list[Update] = []
        self._arrivals = 0
        self._stats = Stats(blocks_total=sum(pool.count for pool in self.blocks.pools))

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to do or to tell."""
        return bool(self._requests or self._ended)

    def add(
        self,
        prompt: Sequence[int],
        sampling: Sampling | None = None,
        *,
        uid: str | None = None,
        adapter: str | None = None,
        priority: int = 0,
        salt: str = "",
    ) -> str:
        """Queue a request.

        Args:
            prompt: Its token ids.
            sampling: How to go on; with `n` above 1 there are n requests, named "uid.0", "uid.1" ...
            uid: Its name; None makes one.
            adapter: Name of a LoRA adapter of the engine's set.
            priority: Smaller goes first.
            salt: Only requests of the same salt share cached blocks: name the tenant where that matters.

        Returns:
            The name.

        Raises:
            PromptError: The prompt is empty, too long, or holds an unknown id; a setting does not fit.
            EngineFull: The queue is full.
        """
        sampling = sampling or Sampling()
        self._arrivals += 1
        uid = uid if uid is not None else f"r{self._arrivals}"
        wanted = names(uid, sampling.n)
        if taken := next((name for name in wanted if name in self._requests), None):
            raise PromptError(f"a request is called {taken!r} already")
        self._check(prompt, sampling, adapter)
        if not self.config.prefix_cache:
            salt = f"{salt}\0{uid}"  # nobody else's, so only the n answers to one prompt share it
        if adapter is not None and self.adapters is not None:
            salt = f"{salt}\0{self.adapters.salt(adapter)}"
        self.scheduler.check_room(len(wanted))
        for number, name in enumerate(wanted):
            self._queue(name, number, prompt, sampling, adapter, priority, salt)
        return uid

    def cancel(self, uid: str) -> None:
        """End a request (or all n of one) and free its blocks; an unknown or ended one is no error."""
        for request in self._named(uid):
            self._end(request, "cancelled")
            self._ended.append(self._update(request, finish_reason="cancelled"))

    def step(self) -> list[Update]:
        """Compute some tokens for some requests.

        A request that fails (its grammar, its text) ends with "error" and leaves the others alone; when the
        whole step fails, for instance because memory is short, all its requests do.

        Returns:
            What is new, for every request that got a token or ended.
        """
        updates, self._ended = self._ended, []
        if not self._requests:
            return updates
        updates += self._orphans()
        self._propose()
        plan = self.scheduler.plan()
        if not plan:
            return updates
        self._stats.steps += 1
        try:
            draws = self._draw(plan, self.runner.run(plan))
        except Exception as error:
            return updates + self._fail(plan, f"{type(error).__name__}: {error}")
        except BaseException:  # an interrupt: nobody knows what the step has written
            self._fail(plan, "interrupted")
            raise
        now = self._clock()
        return updates + [self._extend(draw, now) for draw in draws]

    def reset_cache(self) -> None:
        """Forget all keys and values, because the weights changed; running requests compute theirs again."""
        for request in list(self.scheduler.running):
            self.scheduler.preempt(request)
        self.blocks.forget()

    def stats(self) -> Stats:
        """Counts since the beginning; a copy."""
        return replace(
            self._stats,
            running=len(self.scheduler.running),
            waiting=self.scheduler.waiting,
            blocks_used=sum(pool.used for pool in self.blocks.pools),
            preemptions=self.scheduler.preemptions,
            speculation=replace(self._speculation) if self._speculation is not None else None,
        )

    def _orphans(self) -> list[Update]:
        """End requests whose adapter was removed meanwhile."""
        if self.adapters is None:
            return []
        lost = [r for r in self._requests.values() if r.adapter not in (None, *self.adapters.names)]
        for request in lost:
            self._end(request, "error")
        return [
            self._update(r, finish_reason="error", error=f"adapter {r.adapter!r} was removed") for r in lost
        ]

    def _check(self, prompt: Sequence[int], sampling: Sampling, adapter: str | None) -> None:
        vocab = self.model.config.vocab
        if not prompt:
            raise PromptError("the prompt is empty: give at least one token")
        if len(prompt) >= self.room:
            raise PromptError(
                f"the prompt has {len(prompt)} tokens; "
                f"the context of {self.room} leaves room for {self.room - 1}"
            )
        given = {
            "prompt": prompt,
            "logit_bias": sampling.logit_bias or (),
            "stop_token_ids": sampling.stop_token_ids,
        }
        for what, ids in given.items():
            if wrong := next((token for token in ids if not 0 <= token < vocab), None):
                raise PromptError(f"{what}: token {wrong} is not in the vocabulary of {vocab}")
        if self.tokenizer is None and (sampling.stop or sampling.format is not None):
            raise PromptError("stop texts and formats need an engine with a tokenizer")
        if adapter is not None and (self.adapters is None or adapter not in self.adapters.names):
            known = ", ".join(self.adapters.names) if self.adapters is not None else "none"
            raise PromptError(f"no adapter is called {adapter!r}; loaded: {known or 'none'}")

    def _queue(
        self,
        uid: str,
        number: int,
        prompt: Sequence[int],
        sampling: Sampling,
        adapter: str | None,
        priority: int,
        salt: str,
    ) -> None:
        self._arrivals += 1
        seed = sampling.seed + number if sampling.seed is not None else secrets.randbits(63)
        eos = () if sampling.ignore_eos else self.eos
        limit = min(self.room, len(prompt) + (sampling.max_tokens or self.room))
        request = Request(
            uid=uid,
            tokens=list(prompt),
            prompt_tokens=len(prompt),
            limit=limit,
            sampling=sampling,
            seed=seed,
            order=(priority, self._arrivals),
            salt=salt,
            adapter=adapter,
            regime=regime(self.model.config, len(prompt)),
            stop_ids=frozenset((*eos, *sampling.stop_token_ids)),
            detokenizer=Detokenizer(self.tokenizer) if self.tokenizer is not None else None,
            stops=StopFilter(sampling.stop) if sampling.stop else None,
            grammar=self._grammar(sampling, limit - len(prompt)),
            arrived_s=self._clock(),
        )
        self._requests[uid] = request
        self.scheduler.add(request)

    def _grammar(self, sampling: Sampling, left: int) -> "GrammarState | None":
        if sampling.format is None or self.tokenizer is None:
            return None
        from blixt.llm.engine.grammar import compile_format

        grammar = compile_format(sampling.format, self.tokenizer, self.model.config.vocab, self.eos)
        grammar.check_room(left)
        return grammar

    def _propose(self) -> None:
        """Guess tokens for the requests that decode."""
        if self._proposer is None:
            return
        ready = [r for r in self.scheduler.running if r.decoding and r.left > 1]
        most = [min(self.config.speculate_tokens, r.left - 1) for r in ready]
        asked = [(r.uid, r.tokens, most[i]) for i, r in enumerate(ready)]
        self._tell_proposer(ready)
        for request, proposal in zip(ready, self._proposer.propose_batch(asked), strict=True):
            length = len(request.tokens) + len(proposal.tokens)
            crosses = regime(self.model.config, length) != request.regime
            request.drafts = [] if crosses else list(proposal.tokens)
            request.draft_probs = proposal.probs

    def _tell_proposer(self, requests: Sequence[Request]) -> None:
        from blixt.llm.engine.speculative import DrawingProposer

        if isinstance(self._proposer, DrawingProposer):
            for request in requests:
                self._proposer.know(request.uid, request.sampling, request.seed)

    @torch.inference_mode()
    def _draw(self, plan: Sequence[Slice], logits: Tensor) -> list[Draw]:
        """Note what was computed, and draw the step's tokens."""
        now, at, draws = self._clock(), 0, list[Draw]()
        for part in plan:
            request, count = part.request, len(rows_wanted(part))
            if not request.started_s:
                self._start(request, now)
            if request.sampling.prompt_logprobs is not None and part.start < request.prompt_tokens - 1:
                note_prompt_logprobs(part, logits[at : at + count])
            request.computed = min(part.start + part.count, len(request.tokens))
            at += count
            if part.samples:
                draws.append(Draw(request, range(at - 1 - len(request.drafts), at)))
        draw_tokens(logits, draws)
        return draws

    def _start(self, request: Request, now: float) -> None:
        request.started_s = now
        self._stats.queue.add(now - request.arrived_s)
        self._stats.prompt_tokens += request.prompt_tokens
        self._stats.cached_tokens += request.cached

    def _extend(self, draw: Draw, now: float) -> Update:
        """Add what was drawn for a request, until it ends."""
        request, drafts = draw.request, len(draw.request.drafts)
        update = self._update(request)
        if not request.count:
            update.prompt_logprobs = request.prompt_logprobs
        try:
            if draw.error is not None:
                raise draw.error
            extend(draw, update)
        except Exception as error:
            update.finish_reason, update.error = "error", f"{type(error).__name__}: {error}"
        request.drafts = []
        if update.tokens:
            self._count(request, len(update.tokens), now)
        if drafts and self._speculation is not None:
            self._speculation.add(drafts, len(update.tokens) - 1)
        if update.finish_reason is not None:
            self._end(request, update.finish_reason)
            return update
        request.computed = len(request.tokens) - 1
        factors = regime(self.model.config, len(request.tokens))
        if factors != request.regime:
            request.regime = factors
            self.scheduler.preempt(request)
        return update

    def _count(self, request: Request, tokens: int, now: float) -> None:
        self._stats.generated_tokens += tokens
        if not request.first_s:
            request.first_s = now
            self._stats.ttft.add(now - request.arrived_s)
        request.last_s = now

    def _end(self, request: Request, reason: FinishReason) -> None:
        self.scheduler.remove(request)
        del self._requests[request.uid]
        if self._proposer is not None:
            self._proposer.forget(request.uid)
        self._stats.finished[reason] = self._stats.finished.get(reason, 0) + 1
        if request.count > 1:
            self._stats.tpot.add((request.last_s - request.first_s) / (request.count - 1))

    def _fail(self, plan: Sequence[Slice], why: str) -> list[Update]:
        """End all requests of a step that failed; what it wrote cannot be trusted."""
        self.blocks.forget()
        updates: list[Update] = []
        for part in plan:
            self._end(part.request, "error")
            updates.append(self._update(part.request, finish_reason="error", error=why))
        return updates

    def _update(self, request: Request, **fields: Any) -> Update:
        return Update(
            request.uid, prompt_tokens=request.prompt_tokens, cached_tokens=request.cached, **fields
        )

    def _named(self, uid: str) -> list[Request]:
        if uid in self._requests:
            return [self._requests[uid]]
        return [r for r in self._requests.values() if r.sampling.n > 1 and r.uid.rpartition(".")[0] == uid]
