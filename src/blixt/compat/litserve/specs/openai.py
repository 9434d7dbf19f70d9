"""OpenAI's chat completions for a LitAPI."""

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from blixt.serve import HTTPError, Spec
from blixt.serve.specs.base import Call, Endpoint
from blixt.serve.specs.openai_answer import CompletionCall
from blixt.serve.specs.openai_types import ChatRequest, Message, Piece, StreamOptions

from ..hooks import is_generator
from .base import LitSpec
from .openai_types import (
    ChatCompletionRequest,
    ChatMessage,
    ChatMessageWithUsage,
    ResponseFormat,
    Tool,
    ToolCall,
    UsageInfo,
)

if TYPE_CHECKING:
    from ..api import LitAPI

__all__ = [
    "ChatCompletionRequest",
    "ChatMessage",
    "ChatMessageWithUsage",
    "OpenAISpec",
    "ResponseFormat",
    "Tool",
    "ToolCall",
    "UsageInfo",
]

PATH = "/v1/chat/completions"


class OpenAISpec(LitSpec):
    """Serve a LitAPI as `/v1/chat/completions`.

    `predict` gets a `ChatCompletionRequest` and yields text, or messages as dicts or `ChatMessage`s, which
    may carry `prompt_tokens` and `completion_tokens`.
    """

    api_path = PATH
    stream = True

    def pre_setup(self, lit_api: "LitAPI") -> None:
        """Both hooks must be generators.

        Raises:
            ValueError: One is not.
        """
        name, must = type(lit_api).__name__, "is not a generator"
        if lit_api.enable_async:
            must = "must be an async generator"
        if not is_generator(lit_api.predict):
            raise ValueError(f"{name}: predict {must}; `yield` the pieces of the answer.")
        overridden = lit_api._overrides("encode_response")  # pyright: ignore[reportPrivateUsage]
        if overridden and not is_generator(lit_api.encode_response):
            raise ValueError(f"{name}: encode_response {must}; `yield` the pieces of the answer.")

    def wire(self, lit_api: "LitAPI") -> Spec:
        """As one of blixt's specs."""
        return _Wire(lit_api.api_path)

    def populate_context(self, context: Any, request: Any) -> None:
        """Sampling parameters and the rest, but not the messages."""
        context.update(request.model_dump(exclude={"messages"}))

    def piece(self, data: Any) -> Any:
        """Text, a dict or a message as blixt's piece."""
        if isinstance(data, BaseModel):
            data = data.model_dump(exclude_none=True)
        if isinstance(data, str):
            return Piece(data, tokens=0)
        calls = [{**call, "index": index} for index, call in enumerate(data.get("tool_calls") or [])]
        return Piece(
            str(data.get("content") or ""),
            tokens=data.get("completion_tokens") or 0,
            prompt_tokens=data.get("prompt_tokens"),
            tool_calls=calls or None,
        )


class _Wire(Spec):
    """The front half of `OpenAISpec`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def endpoints(self) -> list[Endpoint]:
        """The route."""
        return [Endpoint(self._path, _parse, "Chat completions", ChatCompletionRequest)]

    def read(self, body: bytes) -> ChatCompletionRequest:
        """What `decode_request` gets."""
        return ChatCompletionRequest.model_validate_json(body)

    def pieces(self, api: Any) -> Callable[[Any, Any], Iterator[Any]]:
        """Those of the adapter, and the end."""
        return _ended

    def apieces(self, api: Any) -> Callable[[Any, Any], Any]:
        """The same, async."""
        return _aended


class _Call(CompletionCall):
    """A chat completion whose workers get the client's own body."""

    def __init__(self, body: bytes, request: ChatCompletionRequest) -> None:
        options = StreamOptions(include_usage=True)
        messages = [Message(role=message.role, content="") for message in request.messages]
        super().__init__(
            ChatRequest(
                model=request.model or "lit",
                messages=messages,
                n=request.n,
                stream=request.stream,
                stream_options=options,
            ),
            max_choices=128,
        )
        self.messages = [body for _ in self.messages]


def _parse(body: bytes) -> Call:
    try:
        return _Call(body, ChatCompletionRequest.model_validate_json(body))
    except ValidationError as error:
        raise unprocessable(error) from None


def unprocessable(error: ValidationError) -> HTTPError:
    """422 in FastAPI's shape; 400 for what is no JSON at all."""
    items = error.errors(include_url=False, include_context=False, include_input=False)
    if items[0]["type"] == "json_invalid":
        return HTTPError(400, f"The body is not valid JSON: {items[0]['msg']}")
    return HTTPError(422, [{**item, "loc": ["body", *item["loc"]]} for item in items])


@functools.cache
def _end() -> Piece:
    return Piece("", tokens=0, finish_reason="stop")


def _ended(pair: Any, context: Any) -> Iterator[Any]:
    yield from pair[1]
    yield _end()


async def _aended(pair: Any, context: Any) -> Any:
    async for piece in pair[1]:
        yield piece
    yield _end()
