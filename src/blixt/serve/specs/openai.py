"""OpenAI's chat, completions and responses on top of `predict`."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from blixt.serve.errors import ConfigError
from blixt.serve.specs.base import Call, Endpoint, Spec
from blixt.serve.specs.openai_types import ChatRequest, CompletionRequest, FinishReason, Piece
from blixt.serve.specs.stops import StopFilter

if TYPE_CHECKING:
    from blixt.serve.api import API

_decoder = msgspec.json.Decoder(ChatRequest | CompletionRequest)


class OpenAISpec(Spec):
    """Serve an API as `/v1/chat/completions`, `/v1/completions`, `/v1/responses` and `/v1/models`.

    `predict(request)` receives a `ChatRequest` or `CompletionRequest` and yields (or returns) text: each
    piece a `str`, which counts as one token, or a `Piece`, which says more (tool calls, reasoning,
    log-probabilities, token counts). The spec cuts at `stop` strings and `max_tokens`, counts usage, says why
    an answer ended, and streams when the client asks for it; sampling parameters, tools and `response_format`
    are in the request for the model to heed. `n` choices and lists of prompts become one call of `predict`
    each, side by side; `request.choice` says which it is. An `encode_response` of your own sees each piece
    first.

    Several APIs with specs of different models share one server; the request's `model` chooses.

    Args:
        model: The name clients ask for; None answers to every name.
        max_tokens: Bound of an answer when the client names none.
        max_choices: Most `n` times prompts that one request may ask for.
        more_models: Further names that it answers to; `request.model` says which one was asked for.

    Example:
        >>> OpenAISpec(model="parrot").model
        'parrot'
    """

    def __init__(
        self,
        model: str | None,
        max_tokens: int | None = None,
        max_choices: int = 16,
        more_models: Sequence[str] = (),
    ) -> None:
        if model == "" or "" in more_models:
            raise ConfigError("OpenAISpec: model is empty; give the name clients will ask for.")
        self.model = model
        self.more_models = tuple(more_models)
        self.max_tokens = max_tokens
        self.max_choices = max_choices

    @property
    def models(self) -> tuple[str | None, ...]:
        """All names that it answers to."""
        return (self.model, *self.more_models)

    @property
    def label(self) -> str:
        """What metrics and `/info` call an API under this spec."""
        return f"/v1:{self.model}" if self.model else "/v1"

    def endpoints(self) -> list[Endpoint]:
        """Front: the routes."""
        from blixt.serve.specs.openai_docs import COMPLETION_DOCS

        parsers = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completion,
            "/v1/responses": self._response,
        }
        return [Endpoint(path, parse, *COMPLETION_DOCS[path]) for path, parse in parsers.items()]

    def error_body(self, status: int, detail: object) -> bytes:
        """Front: an error in OpenAI's shape."""
        from blixt.serve.specs.openai_wire import error_body

        return error_body(status, detail)

    def read(self, body: bytes) -> ChatRequest | CompletionRequest:
        """Worker: what the front has checked and passed on."""
        return _decoder.decode(body)

    def pieces(self, api: "API") -> Callable[[Any, Any], Iterator[Piece]]:
        """Worker: cut, count and finish what `predict` yields."""
        encoded = super().pieces(api)

        def run(pair: tuple[Any, Any], context: Any) -> Iterator[Piece]:
            return shape(encoded(pair, context), pair[0], self.max_tokens)

        return run

    def apieces(self, api: "API") -> Callable[[Any, Any], AsyncIterator[Piece]]:
        """Worker: the same for an async API."""
        encoded = super().apieces(api)

        def run(pair: tuple[Any, Any], context: Any) -> AsyncIterator[Piece]:
            return ashape(encoded(pair, context), pair[0], self.max_tokens)

        return run

    def _chat(self, body: bytes) -> Call:
        from blixt.serve.specs.openai_answer import CompletionCall
        from blixt.serve.specs.openai_requests import read_chat

        return CompletionCall(read_chat(body), self.max_choices)

    def _completion(self, body: bytes) -> Call:
        from blixt.serve.specs.openai_answer import CompletionCall
        from blixt.serve.specs.openai_requests import read_completion

        return CompletionCall(read_completion(body), self.max_choices)

    def _response(self, body: bytes) -> Call:
        from blixt.serve.specs.openai_responses import read_response
        from blixt.serve.specs.openai_responses_wire import ResponseCall

        return ResponseCall(*read_response(body))


class Shaper:
    """Cuts one answer at its stop strings and its length, and says why it ended."""

    def __init__(self, request: ChatRequest | CompletionRequest, limit: int | None = None) -> None:
        self._stops = StopFilter(request.stops)
        self._limit = request.max_tokens or limit
        self._count = 0

    def feed(self, output: Any) -> Piece:
        """The next piece as the client gets it; one with a finish reason is the last."""
        piece = output if isinstance(output, Piece) else Piece(str(output))
        self._count += piece.tokens
        piece.text = self._stops.feed(piece.text)
        full = self._limit is not None and self._count >= self._limit
        reason = _ending(piece, self._stops.hit, full)
        if reason is not None:
            piece.text += "" if self._stops.hit else self._stops.rest()
            piece.finish_reason = reason
        return piece

    def end(self) -> Piece:
        """The last piece of an answer that just ended."""
        return Piece(self._stops.rest(), tokens=0, finish_reason="stop")


def shape(
    outputs: Any, request: ChatRequest | CompletionRequest, limit: int | None = None
) -> Iterator[Piece]:
    """Pieces as the client gets them; the last one always carries the finish reason."""
    shaper = Shaper(request, limit)
    try:
        for output in outputs:
            piece = shaper.feed(output)
            yield piece
            if piece.finish_reason is not None:
                return
        yield shaper.end()
    finally:
        close = getattr(outputs, "close", None)
        if close is not None:
            close()


async def ashape(
    outputs: Any, request: ChatRequest | CompletionRequest, limit: int | None = None
) -> AsyncIterator[Piece]:
    """`shape` for an async iterator."""
    shaper = Shaper(request, limit)
    try:
        async for output in outputs:
            piece = shaper.feed(output)
            yield piece
            if piece.finish_reason is not None:
                return
        yield shaper.end()
    finally:
        close = getattr(outputs, "aclose", None)
        if close is not None:
            await close()


def _ending(piece: Piece, stopped: bool, full: bool) -> FinishReason | None:
    if stopped:
        return "stop"
    return piece.finish_reason or ("length" if full else None)
