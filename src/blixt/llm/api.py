"""`LLM`: a model and its tokenizer on an engine, for one prompt or many."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, cast, overload

import torch
from torch import Tensor

from blixt.llm.engine.engine import Engine
from blixt.llm.engine.engine_config import EngineConfig
from blixt.llm.engine.engine_shared import SharedEngine
from blixt.llm.engine.request import TokenLogprob, Update
from blixt.llm.errors import EngineError, PromptError
from blixt.llm.model import GPT
from blixt.llm.sampling import Sampling, make_sampling
from blixt.llm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from blixt.llm.engine.adapters import AdapterSet

Message = Mapping[str, Any]
Conversation = Sequence[Message]
Prompt = str | Sequence[int]
Prompts = list[str] | list[list[int]] | list[Prompt] | tuple[Prompt, ...]


@dataclass
class Completion:
    """A generated text; filled while `LLM.stream` runs.

    Attributes:
        text: What was generated, without the stop text.
        tokens: Its ids, the end token included.
        prompt_tokens: Number of tokens in the prompt.
        cached_tokens: How many of those the prefix cache had.
        finish_reason: "stop" (end token, stop text, or a format that is complete), "length", or "" while it
            runs.
        logprobs: One a token, when asked for.
        prompt_logprobs: Of the prompt's tokens from the second on, when asked for.
        alternatives: The other answers, when `n` was above 1.
    """

    text: str = ""
    tokens: list[int] = field(default_factory=list[int])
    prompt_tokens: int = 0
    cached_tokens: int = 0
    finish_reason: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    alternatives: "list[Completion]" = field(default_factory=list["Completion"])

    @property
    def completion_tokens(self) -> int:
        """Number of tokens generated, the end token included."""
        return len(self.tokens)

    def take(self, update: Update) -> None:
        """Add what the engine tells.

        Raises:
            EngineError: The request failed.
        """
        if update.finish_reason == "error":
            raise EngineError(f"request {update.uid!r} failed: {update.error}")
        self.text += update.text
        self.tokens += update.tokens
        self.logprobs += update.logprobs
        self.prompt_logprobs += update.prompt_logprobs
        self.prompt_tokens = update.prompt_tokens
        self.cached_tokens = update.cached_tokens
        self.finish_reason = update.finish_reason or ""


class LLM:
    """A language model with its tokenizer, ready to write.

    Several threads may use one `LLM`; their requests share the batch.

    Args:
        model: In evaluation mode, on the device it shall run on.
        tokenizer: The one it was trained with.
        engine: Sizes and switches of the engine, which is made on first use.
        adapters: LoRA adapters that a request may name.

    Example:
        ```python
        llm = LLM.load("model")
        for piece in llm.stream("def __init__(self", max_tokens=32):
            print(piece, end="")
        answers = llm.generate(["one", "two", "three"], max_tokens=32, temperature=0)
        ```
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        engine: EngineConfig | None = None,
        *,
        adapters: "AdapterSet | None" = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.engine_config = engine or EngineConfig()
        self.adapters = adapters
        self._shared: SharedEngine | None = None
        self._making = threading.Lock()

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str = "cpu",
        *,
        dtype: torch.dtype | str | None = None,
        quantize: str | None = None,
        adapters: Mapping[str, str | Path] | None = None,
        verify: bool = False,
        **engine: Any,
    ) -> "LLM":
        """Load a checkpoint: a directory as Hugging Face writes it, or a GGUF file.

        Args:
            path: The directory or file.
            device: Where it shall run.
            dtype: Of the weights; None keeps them as stored.
            quantize: Store linear layers as "int8", "int8-dynamic", "int4", "nf4" or "fp8".
            adapters: Names and directories of LoRA adapters (PEFT's format) that requests may ask for.
            verify: Compare the checksums of files that blixt wrote first, at a second a gigabyte.
            **engine: Fields of `EngineConfig`; `speculate` may also be the directory of a draft model.

        Raises:
            LLMError: A file is missing or damaged, does not fit the others, or does not fit into memory.
        """
        from blixt.llm.api_load import load

        return load(
            cls,
            path,
            device,
            dtype=dtype,
            quantize=quantize,
            adapters=adapters,
            engine=engine,
            verify=verify,
        )

    @property
    def engine(self) -> Engine:
        """The engine underneath; do not step it while others generate."""
        return self._running.engine

    @property
    def _running(self) -> SharedEngine:
        with self._making:
            if self._shared is None:
                engine = Engine(self.model, self.tokenizer, self.engine_config, adapters=self.adapters)
                self._shared = SharedEngine(engine)
            return self._shared

    @overload
    def generate(self, prompt: Prompt, **options: Any) -> Completion: ...

    @overload
    def generate(self, prompt: Prompts, **options: Any) -> list[Completion]: ...

    def generate(self, prompt: Prompt | Prompts, **options: Any) -> Completion | list[Completion]:
        """Continue a prompt, or a list of them in one batch.

        Args:
            prompt: Text, token ids, or a list of either.
            **options: `Sampling`'s fields; `adapter`, `priority` and `salt` of `Engine.add`.

        Raises:
            PromptError: A prompt or a keyword is impossible.
            EngineError: A request failed while it ran.
        """
        if _is_one(prompt):
            return self._complete([self._ids(prompt)], options)[0]
        several = cast("Sequence[Prompt]", prompt)
        return self._complete([self._ids(one) for one in several], options)

    @overload
    def chat(self, messages: Conversation, **options: Any) -> Completion: ...

    @overload
    def chat(self, messages: Sequence[Conversation], **options: Any) -> list[Completion]: ...

    def chat(
        self, messages: Conversation | Sequence[Conversation], **options: Any
    ) -> Completion | list[Completion]:
        """Answer a conversation, or a list of them, rendered by the model's chat template.

        Args:
            messages: Mappings with "role" and "content".
            **options: As for `generate`; `tools` and `chat_template_kwargs` (a mapping) go to the template.

        Raises:
            PromptError: A message has no text, or a keyword is impossible.
        """
        given: dict[str, Any] = {
            "tools": options.pop("tools", None),
            **(options.pop("chat_template_kwargs", None) or {}),
        }
        if not messages or isinstance(messages[0], Mapping):
            conversation = cast("Conversation", messages)
            return self._complete([self.chat_ids(conversation, **given)], options)[0]
        several = cast("Sequence[Conversation]", messages)
        return self._complete([self.chat_ids(one, **given) for one in several], options)

    def chat_ids(self, messages: Conversation, **variables: Any) -> list[int]:
        """The token ids a conversation becomes, up to where the answer begins; variables of the template."""
        template = self.tokenizer.template
        if template is None:
            return self.tokenizer.encode(render_chat(messages))
        return template.ids(messages, **variables)

    def stream(self, prompt: Prompt, completion: Completion | None = None, **options: Any) -> Iterator[str]:
        """Continue a prompt, piece by piece: never half a character, never part of a stop text.

        A caller who stops early cancels the request.

        Args:
            prompt: Text or token ids.
            completion: Filled on the way, for counts and the reason it ended.
            **options: As for `generate`, but one answer only.

        Raises:
            PromptError: The prompt or a keyword is impossible.
        """
        result = completion if completion is not None else Completion()
        sampling, where = _split(options)
        if sampling.n != 1:
            raise PromptError(f"n={sampling.n}: a stream has one answer")
        for _, _, update in self._running.run([self._ids(prompt)], sampling, **where):
            result.take(update)
            if update.text:
                yield update.text

    def embed(
        self, texts: str | Sequence[str], *, pooling: Literal["mean", "last"] = "mean", normalize: bool = True
    ) -> Tensor:
        """Vectors of texts from the model's last hidden states.

        Args:
            texts: One text or a list.
            pooling: Mean over a text's tokens, or its last token.
            normalize: Scale to length 1.

        Returns:
            (D,) for one text, (texts, D) for a list; single precision, on the CPU.

        Raises:
            PromptError: A text is empty or longer than the context.
        """
        from blixt.llm.engine.runner_embed import embed

        ids = [self.tokenizer.encode(text) for text in ([texts] if isinstance(texts, str) else texts)]
        with self._running.locked():
            vectors = embed(self.model, ids, pooling=pooling, normalize=normalize)
        return vectors[0] if isinstance(texts, str) else vectors

    def save(self, directory: str | Path) -> None:
        """Write config, weights and tokenizer as `load` and other libraries read them.

        Raises:
            LLMError: The model is quantised, or the directory cannot be written.
        """
        from blixt.llm.weights import save_checkpoint

        save_checkpoint(self.model, directory)
        self.tokenizer.save(directory)

    def bench(
        self, *, prompt_tokens: int = 128, max_tokens: int = 64, batch: int = 1, rounds: int = 3
    ) -> dict[str, float]:
        """Time the model on random prompts; each round runs once, and nothing else is timed.

        Returns:
            "seconds", "cpu_seconds", "ttft_s", "tokens_per_s" (generated) and "total_tokens_per_s", medians
            over the rounds.
        """
        from blixt.llm.engine.metrics_bench import bench

        return bench(
            self.engine, prompt_tokens=prompt_tokens, max_tokens=max_tokens, batch=batch, rounds=rounds
        )

    def _ids(self, prompt: Prompt) -> list[int]:
        return self.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)

    def _complete(self, prompts: Sequence[list[int]], options: dict[str, Any]) -> list[Completion]:
        """Run prompts in one batch to their ends."""
        sampling, where = _split(options)
        results = [[Completion() for _ in range(sampling.n)] for _ in prompts]
        for prompt, answer, update in self._running.run(prompts, sampling, **where):
            results[prompt][answer].take(update)
        for first, *others in results:
            first.alternatives = others
        return [answers[0] for answers in results]


def render_chat(messages: Conversation) -> str:
    """A conversation as the text a model without a chat template continues: the contents, a line each.

    Raises:
        PromptError: A message has no content.
    """
    for index, message in enumerate(messages):
        if not isinstance(message.get("content"), str):
            raise PromptError(f"message {index} has no text under 'content'")
    return "\n".join(message["content"] for message in messages)


def _is_one(prompt: Prompt | Prompts) -> TypeGuard[Prompt]:
    return isinstance(prompt, str) or (len(prompt) > 0 and isinstance(prompt[0], int))


def _split(options: dict[str, Any]) -> tuple[Sampling, dict[str, Any]]:
    """Sampling options, and those of `Engine.add`."""
    where = {name: options.pop(name) for name in ("adapter", "priority", "salt") if name in options}
    return make_sampling(**options), where
