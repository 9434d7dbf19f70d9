"""What `predict` receives and yields under OpenAI's specs."""

import base64
import binascii
from typing import Any, Literal

import msgspec

from blixt.serve.errors import HTTPError

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
ReasoningEffort = str
MAX_LOGPROBS = 20


class Message(msgspec.Struct, omit_defaults=True):
    """One message of a conversation. Its content is text, or a list of parts (text, images, audio, files)."""

    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        """The content as text: content parts that are text joined, others left out."""
        return "".join(part.get("text", "") for part in self.parts if part.get("type") == "text")

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The content as a list of parts, whichever way the client wrote it."""
        if isinstance(self.content, list):
            return self.content
        return [{"type": "text", "text": self.content}] if self.content else []

    @property
    def images(self) -> list[str]:
        """URLs of the image parts; `data:` URLs are read by `data_of`."""
        return [part["image_url"]["url"] for part in self.parts if part.get("type") == "image_url"]

    @property
    def audios(self) -> list[tuple[str, bytes]]:
        """The audio parts as (format, bytes)."""
        sounds = [part["input_audio"] for part in self.parts if part.get("type") == "input_audio"]
        return [(sound["format"], base64.b64decode(sound["data"])) for sound in sounds]


def data_of(url: str) -> tuple[str, bytes]:
    """Media type and bytes of a `data:` URL.

    Raises:
        HTTPError: 400 if it is another URL, which servers do not fetch, or its base64 is broken.

    Example:
        >>> data_of("data:text/plain;base64,aGk=")
        ('text/plain', b'hi')
    """
    head, comma, data = url.partition(",")
    if not head.startswith("data:") or not comma or not head.endswith(";base64"):
        raise HTTPError(400, "Only `data:TYPE;base64,...` URLs are read; send the content in the request.")
    try:
        return head[5:-7], base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise HTTPError(400, f"The data of a `data:` URL is not base64: {error}.") from None


class StreamOptions(msgspec.Struct):
    """Options of a streamed answer."""

    include_usage: bool = False


class Sampling(msgspec.Struct, kw_only=True, tag_field="blixt_request"):
    """What chat and completion requests share. Unset numbers are None: the model's own default."""

    model: str
    stream: bool | None = False
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
    choice: int = 0
    """Which of the `n` choices (and prompts) this one is; set by the server."""

    @property
    def stops(self) -> list[str]:
        """The stop strings as a list, without empty ones."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [stop for stop in stops if stop]


class ChatRequest(Sampling, kw_only=True, tag="chat"):
    """A request to `/v1/chat/completions`, or one to `/v1/responses` said as a chat."""

    messages: list[Message]
    max_completion_tokens: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: ReasoningEffort | None = None
    verbosity: str | None = None
    modalities: list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    metadata: dict[str, str] | None = None


class CompletionRequest(Sampling, kw_only=True, tag="completion"):
    """A request to `/v1/completions`. `prompt` is text, or a list of token ids if the client sent ids."""

    prompt: str | list[int | str | list[int]]
    suffix: str | None = None
    echo: bool | None = False
    logprobs: int | None = None
    best_of: int | None = None


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """A request to `/v1/embeddings`; `input` is one text or list of token ids (see `OpenAIEmbeddingSpec`)."""

    model: str
    input: str | list[int | str | list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None


class Embedding(msgspec.Struct):
    """What `predict` may return for one input when it knows how many tokens it had.

    Args:
        vector: A list of floats, or a numpy array or tensor of one dimension.
        tokens: Length of the input in tokens, for `usage`.
    """

    vector: Any
    tokens: int = 0


class TokenLogprob(msgspec.Struct, omit_defaults=True):
    """A token, its log-probability (None for a prompt's first), and the likeliest others in its place."""

    token: str
    logprob: float | None
    top: list["TokenLogprob"] = []
    bytes: list[int] | None = None


class Piece(msgspec.Struct, omit_defaults=True):
    """A piece of an answer, for models that know more than its text.

    Args:
        text: The next text, may be empty.
        tokens: How many tokens it stands for; a plain `str` counts as one.
        finish_reason: Set on the last piece if the model knows why it ended ("stop" or "length").
        prompt_tokens: Length of the prompt in tokens, on any piece, for `usage`.
        tool_calls: Tool calls in OpenAI's delta shape, each with its `index`.
        reasoning: The next text of the model's thinking, kept apart from the answer.
        refusal: The next text of a refusal.
        logprobs: The tokens of `text`; sent only to clients that asked for them.
        cached_tokens: How much of the prompt came from a cache, on any piece.
        reasoning_tokens: How many of `tokens` were thinking.
        token_seconds: On the last piece, the mean time between the answer's tokens, for the metrics.
    """

    text: str = ""
    tokens: int = 1
    finish_reason: FinishReason | None = None
    prompt_tokens: int | None = None
    tool_calls: list[dict[str, Any]] | None = None
    reasoning: str = ""
    refusal: str = ""
    logprobs: list[TokenLogprob] | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int = 0
    token_seconds: float | None = None
