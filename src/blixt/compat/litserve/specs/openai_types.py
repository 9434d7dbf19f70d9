"""Requests, messages and answers of OpenAI's chat, as pydantic models."""

import time
import uuid
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class UsageInfo(BaseModel):
    """Tokens."""

    prompt_tokens: int = 0
    total_tokens: int = 0
    completion_tokens: int | None = 0

    def __add__(self, other: "UsageInfo") -> "UsageInfo":
        return UsageInfo(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
            completion_tokens=(self.completion_tokens or 0) + (other.completion_tokens or 0),
        )

    def __radd__(self, other: Any) -> "UsageInfo":
        """`sum` begins with 0."""
        return self if other == 0 else other + self


class ImageContent(BaseModel):
    """A part that is an image's URL."""

    type: Literal["image_url"]
    image_url: str | dict[str, Any]


class TextContent(BaseModel):
    """A part that is text."""

    type: Literal["text"]
    text: str


class InputAudio(BaseModel):
    """Sound in base64."""

    data: str
    format: Literal["wav", "mp3"]


class AudioContent(BaseModel):
    """A part that is sound."""

    type: Literal["input_audio"]
    input_audio: InputAudio


Part = Annotated[TextContent | ImageContent | AudioContent, Field(discriminator="type")]


class Function(BaseModel):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(BaseModel):
    """A tool that the model may call."""

    type: Literal["function"]
    function: Function


class ToolChoice(BaseModel):
    """A tool that the model must call."""

    type: Literal["function"]
    function: dict[str, Any]


class FunctionCall(BaseModel):
    """A call that the model wants made."""

    name: str | None = None
    arguments: str | None = None


class ToolCall(BaseModel):
    """A tool call."""

    id: str | None = None
    type: str = "function"
    function: FunctionCall
    index: int = 0


class ChatMessage(BaseModel):
    """One message."""

    role: str
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class ChatMessageWithUsage(ChatMessage, UsageInfo):
    """A message that also says how many tokens it took."""


class ResponseFormat(BaseModel):
    """What form the answer must have."""

    model_config = ConfigDict(extra="allow")

    type: Literal["text", "json_object", "json_schema"]


class StreamOptions(BaseModel):
    """Options of a streamed answer."""

    include_usage: bool = False


class ChatCompletionRequest(BaseModel):
    """A request to `/v1/chat/completions`."""

    model: str | None = ""
    messages: list[ChatMessage]
    temperature: float | None = 0.7
    top_p: float | None = 1.0
    n: int | None = 1
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    presence_penalty: float | None = 0.0
    frequency_penalty: float | None = 0.0
    user: str | None = None
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = "auto"
    response_format: ResponseFormat | None = None
    metadata: dict[str, str] | None = None
    reasoning_effort: Literal["low", "medium", "high"] | None = None


class ChoiceDelta(BaseModel):
    """A piece of a message."""

    role: Literal["system", "user", "assistant", "tool"] | None = None
    content: str | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class ChatCompletionResponseChoice(BaseModel):
    """One answer of several."""

    index: int
    message: ChatMessage
    finish_reason: str | None = None


class ChatCompletionStreamingChoice(BaseModel):
    """A piece of one answer of several."""

    index: int
    delta: ChoiceDelta | None
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None


class _Answer(BaseModel):
    id: str = Field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    object: str = "chat.completion"
    created: int = Field(default_factory=lambda: int(time.time()))
    model: str


class ChatCompletionResponse(_Answer):
    """A whole answer."""

    choices: list[ChatCompletionResponseChoice]
    usage: UsageInfo


class ChatCompletionChunk(_Answer):
    """A piece of an answer."""

    object: str = "chat.completion.chunk"
    system_fingerprint: str | None = None
    choices: list[ChatCompletionStreamingChoice]
    usage: UsageInfo | None = None
