"""The interface of our engine over llama.cpp: its kernels and caches, our sampling, formats and texts."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blixt.llm.backends.base import ForeignLLM, ForeignModel, Queue, check_prompt
from blixt.llm.backends.llama_cpp_session import Feed, Session
from blixt.llm.engine.engine_draw import Draw, draw_tokens, extend
from blixt.llm.engine.metrics import Stats
from blixt.llm.engine.request import FinishReason, Request, State, Update, names
from blixt.llm.errors import PromptError
from blixt.llm.sampling import Sampling
from blixt.llm.tokenizer import Detokenizer, Tokenizer
from blixt.llm.weights import read_config
from blixt.serve import StopFilter


@dataclass
class _Slot:
    """One of llama.cpp's sequences.

    Attributes:
        number: Its number there.
        tokens: What its cache holds.
        request: Who uses it.
    """

    number: int
    tokens: list[int] = field(default_factory=list[int])
    request: Request | None = None


class LlamaCppEngine:
    """Continuous batching over llama.cpp.

    Every request takes a sequence of the library's; one that has ended keeps its tokens, and the next request
    with the same beginning goes on from them.

    Args:
        path: A GGUF file.
        tokenizer: Ours, of that file.
        context: Most tokens of a request; the model's own, at most 4096, by default.
        max_batch: Most requests at once.
        max_tokens_per_step: Most tokens in a batch.
        threads: Of the CPU; 0 takes the library's choice.
        gpu_layers: Layers on a GPU; -1 means all.

    Attributes:
        room: Most tokens of one request, prompt and answer.

    Raises:
        BackendError: The `llama_cpp` package is missing, or cannot load the file.
    """

    def __init__(
        self,
        path: str | Path,
        tokenizer: Tokenizer,
        *,
        context: int | None = None,
        max_batch: int = 8,
        max_tokens_per_step: int = 512,
        threads: int = 0,
        gpu_layers: int = 0,
    ) -> None:
        config = read_config(path)
        self.room = min(context or 4096, config.context)
        self.session = Session(
            path,
            context=self.room,
            sequences=max_batch,
            batch_tokens=max_tokens_per_step,
            threads=threads,
            gpu_layers=gpu_layers,
        )
        self.model = ForeignModel(config, "llama.cpp")
        self.config = self.scheduler = Queue()
        self.tokenizer = tokenizer
        self._max_tokens = max_tokens_per_step
        self._slots = [_Slot(number) for number in range(max_batch)]
        self._waiting: list[Request] = []
        self._ended: list[Update] = []
        self._arrivals = 0
        self._stats = Stats()

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to do or to tell."""
        return bool(self._waiting or self._ended or any(slot.request for slot in self._slots))

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
        """Queue a request; see `Engine.add`.

        Raises:
            PromptError: The prompt is empty or too long, or asks for an adapter or prompt log probabilities.
            EngineFull: The queue is full.
        """
        sampling = sampling or Sampling()
        if adapter is not None or sampling.prompt_logprobs is not None:
            raise PromptError("the llama.cpp backend has neither adapters nor log probabilities of prompts")
        check_prompt(prompt, self.room, self.session.vocab)
        uid = uid if uid is not None else f"r{self._arrivals}"
        self.scheduler.check_room(sampling.n)
        self._waiting += [
            self._request(name, number, prompt, sampling, priority, salt)
            for number, name in enumerate(names(uid, sampling.n))
        ]
        self._waiting.sort(key=lambda request: request.order)
        self.scheduler.waiting = len(self._waiting)
        return uid

    def cancel(self, uid: str) -> None:
        """End a request (or all n of one); an unknown or ended one is no error."""
        going = [*self._waiting, *(slot.request for slot in self._slots if slot.request)]
        for request in going:
            several = request.sampling.n > 1 and request.uid.rpartition(".")[0] == uid
            if request.uid == uid or several:
                self._end(request, "cancelled")
                self._ended.append(self._update(request, finish_reason="cancelled"))

    def step(self) -> list[Update]:
        """Compute a batch; what is new for every request that got a token or ended."""
        updates, self._ended = self._ended, []
        self._admit()
        feeds, drawing = self._plan()
        if not feeds:
            return updates
        self._stats.steps += 1
        logits = self.session.run(feeds)
        draws = [Draw(request, range(row, row + 1)) for row, request in enumerate(drawing)]
        draw_tokens(logits, draws)
        return updates + [self._extend(draw) for draw in draws]

    def stats(self) -> Stats:
        """Counts since the beginning; a copy."""
        running = sum(slot.request is not None for slot in self._slots)
        return replace(self._stats, running=running, waiting=len(self._waiting))

    def reset_cache(self) -> None:
        """Forget what ended requests have left."""
        for slot in self._slots:
            if slot.request is None:
                slot.tokens = []

    def _request(
        self, uid: str, number: int, prompt: Sequence[int], sampling: Sampling, priority: int, salt: str
    ) -> Request:
        self._arrivals += 1
        eos = () if sampling.ignore_eos else (*self.model.config.eos, *self.tokenizer.eos)
        request = Request(
            uid=uid,
            tokens=list(prompt),
            prompt_tokens=len(prompt),
            limit=min(self.room, len(prompt) + (sampling.max_tokens or self.room)),
            sampling=sampling,
            seed=sampling.seed + number if sampling.seed is not None else secrets.randbits(63),
            order=(priority, self._arrivals),
            salt=salt,
            stop_ids=frozenset((*eos, *sampling.stop_token_ids)),
            detokenizer=Detokenizer(self.tokenizer),
            stops=StopFilter(sampling.stop) if sampling.stop else None,
            arrived_s=time.monotonic(),
        )
        if sampling.format is not None:
            from blixt.llm.engine.grammar import compile_format

            ends = self.model.config.eos or self.tokenizer.eos
            request.grammar = compile_format(sampling.format, self.tokenizer, self.session.vocab, ends)
            request.grammar.check_room(request.left)
        return request

    def _admit(self) -> None:
        """Give free sequences to the next requests, each the one that knows most of its beginning."""
        free = [slot for slot in self._slots if slot.request is None]
        while free and self._waiting:
            request = self._waiting.pop(0)
            known = [_common(slot.tokens, request.tokens) for slot in free]
            slot = free.pop(known.index(max(known)))
            request.cached = request.computed = min(max(known), len(request.tokens) - 1)
            self.session.forget(slot.number, request.computed)
            slot.tokens, slot.request = request.tokens[: request.computed], request
            request.state = State.RUNNING
            request.started_s = time.monotonic()
            self._stats.queue.add(request.started_s - request.arrived_s)
            self._stats.prompt_tokens += request.prompt_tokens
            self._stats.cached_tokens += request.cached
        self.scheduler.waiting = len(self._waiting)

    def _plan(self) -> tuple[list[Feed], list[Request]]:
        """What to compute: who has the least to read first, so that answers go on beside long prompts."""
        busy = [(slot, slot.request) for slot in self._slots if slot.request]
        busy.sort(key=lambda pair: (len(pair[1].tokens) - pair[1].computed, pair[1].order))
        feeds: list[Feed] = []
        drawing: list[Request] = []
        left = self._max_tokens
        for slot, request in busy:
            tokens = request.tokens[request.computed : request.computed + left]
            if not tokens:
                break
            done = request.computed + len(tokens) == len(request.tokens)
            feeds.append(Feed(slot.number, request.computed, tokens, done))
            slot.tokens += tokens
            request.computed += len(tokens)
            left -= len(tokens)
            if done:
                drawing.append(request)
        return feeds, drawing

    def _extend(self, draw: Draw) -> Update:
        request, now = draw.request, time.monotonic()
        update = self._update(request)
        try:
            if draw.error is not None:
                raise draw.error
            extend(draw, update)
        except Exception as error:
            update.finish_reason, update.error = "error", f"{type(error).__name__}: {error}"
        self._stats.generated_tokens += len(update.tokens)
        if not request.first_s:
            request.first_s = now
            self._stats.ttft.add(now - request.arrived_s)
        request.last_s = now
        if update.finish_reason is not None:
            self._end(request, update.finish_reason)
        return update

    def _end(self, request: Request, reason: FinishReason) -> None:
        if request in self._waiting:
            self._waiting.remove(request)
        for slot in self._slots:
            if slot.request is request:
                slot.request = None
        request.state = State.FINISHED
        self._stats.finished[reason] = self._stats.finished.get(reason, 0) + 1
        if request.count > 1:
            self._stats.tpot.add((request.last_s - request.first_s) / (request.count - 1))

    def _update(self, request: Request, **fields: Any) -> Update:
        return Update(
            request.uid, prompt_tokens=request.prompt_tokens, cached_tokens=request.cached, **fields
        )


def load_llama_cpp(path: str | Path, **settings: Any) -> ForeignLLM:
    """An `LLM` on llama.cpp.

    Args:
        path: A GGUF file; its tokenizer and chat template are read by us.
        **settings: Of `LlamaCppEngine`.

    Raises:
        BackendError: The `llama_cpp` package is missing, or cannot load the file.
    """
    tokenizer = Tokenizer.load(path)
    return ForeignLLM(LlamaCppEngine(path, tokenizer, **settings), tokenizer)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common beginning."""
    same = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        same += 1
    return same
