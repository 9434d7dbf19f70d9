"""`LLM`: a checkpoint directory, loaded and ready to write text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blixt.llm.errors import PromptError
from blixt.llm.model import GPT
from blixt.llm.sampling import Sampling, Step, stream_steps
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import load_checkpoint
from blixt.serve import StopFilter

Message = Mapping[str, str]


@dataclass
class Completion:
    """A generated text; filled while `LLM.stream` runs.

    Attributes:
        text: What was generated, without the stop text.
        prompt_tokens: Number of tokens in the prompt.
        completion_tokens: Number of tokens generated, the end token included.
        finish_reason: "stop" (end token or stop text), "length", or "" while it runs.
    """

    text: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = ""


class LLM:
    """A language model with its tokenizer.

    Args:
        model: In evaluation mode, on the device it shall run on.
        tokenizer: The one it was trained with.

    Example:
        ```python
        llm = LLM.load("model")
        for piece in llm.stream("def __init__(self", max_tokens=32):
            print(piece, end="")
        ```
    """

    def __init__(self, model: GPT, tokenizer: Tokenizer) -> None:
        self.model = model
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, directory: str | Path, device: str = "cpu") -> "LLM":
        """Load `config.json`, `model.safetensors` and `tokenizer.json` from a directory.

        Raises:
            LLMError: A file is missing, damaged, or does not fit the others.
        """
        return cls(load_checkpoint(directory).to(device), Tokenizer.load(directory))

    def generate(self, prompt: str, **sampling: Any) -> Completion:
        """Continue a prompt; the keywords are `Sampling`'s.

        Raises:
            PromptError: The prompt or a keyword is impossible.
        """
        completion = Completion()
        for _ in self.stream(prompt, completion, **sampling):
            pass
        return completion

    def stream(self, prompt: str, completion: Completion | None = None, **sampling: Any) -> Iterator[str]:
        """Continue a prompt, piece by piece: never half a character, never part of a stop text.

        Args:
            prompt: Text to continue.
            completion: Filled on the way, for counts and the reason it ended.
            **sampling: `Sampling`'s fields.

        Raises:
            PromptError: The prompt or a keyword is impossible.
        """
        result = completion if completion is not None else Completion()
        options = make_sampling(**sampling)
        ids = self.tokenizer.encode(prompt)
        result.prompt_tokens = len(ids)
        stops = StopFilter(options.stop)
        for step in self.steps(ids, options):
            result.completion_tokens += 1
            text = stops.feed(step.text)
            if stops.hit:
                result.finish_reason = "stop"
            elif step.finish_reason:
                text += stops.rest()
                result.finish_reason = step.finish_reason
            if text:
                result.text += text
                yield text
            if result.finish_reason:
                return

    def chat(self, messages: Sequence[Message], **sampling: Any) -> Completion:
        """Answer a conversation, see `render_chat`; the keywords are `Sampling`'s."""
        return self.generate(render_chat(messages), **sampling)

    def steps(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[Step]:
        """Continue token ids, one `Step` a token."""
        return stream_steps(self.model, self.tokenizer, prompt, sampling)


def render_chat(messages: Sequence[Message]) -> str:
    """A conversation as the text a model without a chat template continues: the contents, a line each.

    Raises:
        PromptError: A message has no content.
    """
    for index, message in enumerate(messages):
        if not isinstance(message.get("content"), str):
            raise PromptError(f"message {index} has no text under 'content'")
    return "\n".join(message["content"] for message in messages)


def make_sampling(**fields: Any) -> Sampling:
    """`Sampling` from keywords; None means the default, and `stop` may be one text or a list.

    Raises:
        PromptError: A keyword is unknown or impossible.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    if unknown := sorted(given.keys() - Sampling.__dataclass_fields__.keys()):
        raise PromptError(f"there is no sampling option {unknown[0]!r}")
    stop = given.get("stop", ())
    given["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    return Sampling(**given)
