"""OpenAI's chat completions for a LitAPI."""

import functools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

import msgspec
from fastapi import HTTPException
from pydantic import BaseModel, ValidationError

from blixt.serve import HTTPError, Spec
from blixt.serve.codec import to_json
from blixt.serve.http.sse import event
from blixt.serve.specs.base import Call, Endpoint
from blixt.serve.specs.openai_answer import DONE, CompletionCall
from blixt.serve.specs.openai_types import ChatRequest, Message, Piece, StreamOptions

from ..hooks import is_async, is_generator
from .base import AsyncSpec
from .chat_endpoints import ChatEndpoints, format_error
from .openai_types import (
    ChatCompletionChunk,
    ChatCompletionRequest,
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatCompletionStreamingChoice,
    ChatMessage,
    ChatMessageWithUsage,
    ChoiceDelta,
    ResponseFormat,
    Tool,
    ToolCall,
    UsageInfo,
)
from .paths import take_path

if TYPE_CHECKING:
    from ..api import LitAPI

__all__ = [
    "ChatCompletionChunk",
    "ChatCompletionRequest",
    "ChatCompletionResponse",
    "ChatCompletionResponseChoice",
    "ChatCompletionStreamingChoice",
    "ChatMessage",
    "ChatMessageWithUsage",
    "ChoiceDelta",
    "OpenAISpec",
    "ResponseFormat",
    "Tool",
    "ToolCall",
    "UsageInfo",
]

PATH = "/v1/chat/completions"
NO_TOKENS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
_openai_format_error = format_error
_piece = msgspec.json.Decoder(Piece)


class OpenAISpec(ChatEndpoints):
    """Serve a LitAPI as `/v1/chat/completions`.

    `predict` gets a `ChatCompletionRequest` and yields text, or messages as dicts or `ChatMessage`s, which
    may carry `prompt_tokens` and `completion_tokens`. A subclass may add endpoints, or override those of
    `ChatEndpoints`; then they answer, instead of blixt's own chat.
    """

    empty_on = "OPTIONS"

    def __init__(self) -> None:
        super().__init__()
        self.api_path = PATH

    @property
    def stream(self) -> bool:
        """Answers come in pieces."""
        return True

    def pre_setup(self, lit_api: "LitAPI") -> None:
        """Both hooks must be generators.

        Raises:
            ValueError: One is not.
        """
        self.api_path = take_path(lit_api, PATH)
        self.add_endpoint(self.api_path, self.chat_completion, ["POST"])
        self.add_endpoint(self.api_path, self.options_chat_completions, ["OPTIONS"])
        name, predict, encode = type(lit_api).__name__, lit_api.predict, lit_api.encode_response
        if not lit_api.enable_async and is_async(predict):
            raise ValueError(f"{name}: the hooks are async, but 'enable_async' is not set in LitAPI.")
        if not is_generator(predict):
            must = "must be an async generator" if lit_api.enable_async else "is not a generator"
            raise ValueError(f"{name}: predict {must}; `yield` the pieces of the answer.")
        overridden = lit_api._overrides("encode_response")  # pyright: ignore[reportPrivateUsage]
        if overridden and not is_generator(encode):
            must = (
                "is neither a generator nor an async generator" if is_async(encode) else "is not a generator"
            )
            raise ValueError(f"{name}: encode_response {must}; `yield` the pieces of the answer.")

    def wire(self, lit_api: "LitAPI") -> Spec:
        """As one of blixt's specs: blixt's chat, unless a subclass has endpoints of its own."""
        own = (self.chat_completion, self.options_chat_completions)
        changed = any(getattr(type(self), name) is not getattr(OpenAISpec, name) for name in _HTTP)
        if changed or any(endpoint not in own for _, endpoint, _ in self.endpoints):
            return super().wire(lit_api)
        return _Wire(lit_api.api_path)

    def as_async(self) -> Any:
        """The spec as an async LitAPI's worker uses it."""
        return _AsyncChat(self)

    def populate_context(self, context: Any, request: Any) -> None:
        """Sampling parameters and the rest, but not the messages."""
        context.update(request.model_dump(exclude={"messages"}))

    def encode_response(self, output: Any, context_kwargs: Any = None) -> Any:
        """Each piece as a message."""
        if hasattr(output, "__aiter__"):
            return amessages(output, self._encode_response)
        return messages(output, self._encode_response)

    def _encode_response(self, output: Any) -> Any:
        return as_message(output)

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
            prompt_tokens=data.get("prompt_tokens") or None,
            tool_calls=calls or None,
        )

    def last_piece(self) -> Any:
        """Why it ended."""
        return _end()


_HTTP = (
    "_encode_response",
    "chat_completion",
    "get_from_queues",
    "non_streaming_completion",
    "options_chat_completions",
    "streaming_completion",
)


class _AsyncChat(AsyncSpec):
    """As `AsyncSpec`, but that the pieces are a stream and no coroutine."""

    def encode_response(self, output: Any, context_kwargs: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The spec's."""
        return self._spec.encode_response(output)


def messages(outputs: Iterable[Any], encode: Callable[[Any], Any]) -> Iterator[Any]:
    """What `predict` yields, as messages."""
    for output in outputs:
        yield encode(output)


async def amessages(outputs: AsyncIterable[Any], encode: Callable[[Any], Any]) -> AsyncIterator[Any]:
    """`messages`, async."""
    async for output in outputs:
        yield encode(output)


def as_message(output: Any) -> Any:
    """A piece as a message; of a batch, each.

    Raises:
        HTTPException: 500, it is none.
    """
    if isinstance(output, str):
        return {"role": "assistant", "content": output, **NO_TOKENS}
    if isinstance(output, dict) and "content" in output:
        said = {"role": "assistant", **cast(dict[str, Any], output)}
        return {**said, **{name: said.get(name, 0) for name in NO_TOKENS}}
    if isinstance(output, list):
        return [as_message(one) for one in cast(list[Any], output)]
    if isinstance(output, ChatMessage):
        return output
    raise HTTPException(500, f"Malformed output from LitAPI.predict: {output!r:.200} is no text or message.")


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
        wanted = request.stream_options
        options = None if wanted is None else StreamOptions(include_usage=wanted.include_usage)
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

    def opening(self) -> bytes:
        """Nothing: each piece tells the role."""
        return b""

    def piece(self, index: int, payload: bytes) -> bytes:
        """One chunk; the ends of all choices come together, in `closing`."""
        piece = _piece.decode(payload)
        self.choices[index].add(piece)
        if piece.finish_reason:
            return b""
        delta: dict[str, Any] = {"role": "assistant", "content": piece.text}
        if piece.tool_calls:
            delta["tool_calls"] = piece.tool_calls
        return self._chunk(index, {"delta": delta})

    def closing(self) -> bytes:
        """The ends of all choices, with the usage, whether the client asked for it or not."""
        ends: list[dict[str, Any]] = [
            {"index": index, "delta": {}, "finish_reason": choice.finish_reason}
            for index, choice in enumerate(self.choices)
        ]
        last: dict[str, Any] = {
            **self._head("chat.completion.chunk"),
            "choices": ends,
            "usage": self.usage.completions(),
        }
        return event(to_json(last)) + DONE

    def whole(self, outputs: list[list[bytes]]) -> bytes:
        """The answer, whose content is never null and whose tool calls are numbered."""
        answer = msgspec.json.decode(super().whole(outputs))
        for choice in answer["choices"]:
            message = choice["message"]
            message["content"] = message["content"] or ""
            for index, call in enumerate(message.get("tool_calls", ())):
                call["index"] = index
        return to_json(answer)


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
