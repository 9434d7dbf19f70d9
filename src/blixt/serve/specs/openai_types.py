"""What `predict` receives and yields under `OpenAISpec`."""

from typing import Any, Literal

import msgspec

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class Message(msgspec.Struct, omit_defaults=True):
    """One message of a conversation."""

    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The content as text: content parts that are text joined, others left out."""
        if isinstance(self.content, list):
            return "".join(part.get("text", "") for part in self.content if part.get("type") == "text")
        return self.content or ""


class StreamOptions(msgspec.Struct):
    """Options of a streamed answer."""

    include_usage: bool = False


class Sampling(msgspec.Struct, kw_only=True, tag_field="blixt_request"):
    """What chat and completion requests share. Unset numbers are None: the model's own default."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None

    @property
    def stops(self) -> list[str]:
        """The stop strings as a list, without empty ones."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [stop for stop in stops if stop]


class ChatRequest(Sampling, kw_only=True, tag="chat"):
    """A request to `/v1/chat/completions`."""

    messages: list[Message]
    max_completion_tokens: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    metadata: dict[str, str] | None = None


class CompletionRequest(Sampling, kw_only=True, tag="completion"):
    """A request to `/v1/completions`. `prompt` is text, or a list of token ids if the client sent ids."""

    prompt: str | list[int | str | list[int]]
    suffix: str | None = None
    echo: bool = False


class Piece(msgspec.Struct, omit_defaults=True):
    """A piece of an answer, for models that know more than its text.

    Args:
        text: The next text, may be empty.
        tokens: How many tokens it stands for; a plain `str` counts as one.
        finish_reason: Set on the last piece if the model knows why it ended ("stop" or "length").
        prompt_tokens: Length of the prompt in tokens, on any piece, for `usage`.
        tool_calls: Tool calls in OpenAI's delta shape, each with its `index`.
    """

    text: str = ""
    tokens: int = 1
    finish_reason: FinishReason | None = None
    prompt_tokens: int | None = None
    tool_calls: list[dict[str, Any]] | None = None
