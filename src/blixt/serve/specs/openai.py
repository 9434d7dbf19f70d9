"""OpenAI's chat and completions on top of `predict`: the worker's half."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from blixt.serve.codec import to_json
from blixt.serve.errors import ConfigError
from blixt.serve.specs.openai_types import ChatRequest, CompletionRequest, FinishReason, Piece
from blixt.serve.specs.stops import StopFilter

if TYPE_CHECKING:
    from blixt.serve.api import API

_decoder = msgspec.json.Decoder(ChatRequest | CompletionRequest)


class OpenAISpec:
    """Serve an API as `/v1/models`, `/v1/chat/completions` and `/v1/completions`.

    `predict(request)` receives a `ChatRequest` or `CompletionRequest` and yields (or returns) text: each
    piece a `str`, which counts as one token, or a `Piece`, which says more. The spec cuts at `stop` strings
    and `max_tokens`, counts usage, says why an answer ended, and streams when the client asks for it;
    sampling parameters and tools are in the request for the model to heed. An `encode_response` of your own
    sees each piece first.

    Args:
        model: The name clients ask for.
        max_tokens: Bound of an answer when the client names none.

    Example:
        >>> OpenAISpec(model="parrot").model
        'parrot'
    """

    def __init__(self, model: str, max_tokens: int | None = None) -> None:
        if not model:
            raise ConfigError("OpenAISpec: model is empty; give the name clients will ask for.")
        self.model = model
        self.max_tokens = max_tokens

    def read(self, body: bytes) -> ChatRequest | CompletionRequest:
        """Worker: what the front has checked and passed on."""
        return _decoder.decode(body)

    def write(self, request: ChatRequest | CompletionRequest) -> bytes:
        """Front: the inverse of `read`."""
        return to_json(request)

    def pieces(self, api: "API") -> Callable[[Any, Any], Iterator[Piece]]:
        """Worker: cut, count and finish what `predict` yields."""
        from blixt.serve.plan import piecewise

        encode = piecewise(api)
        limit = self.max_tokens

        def run(pair: tuple[Any, Any], context: Any) -> Iterator[Piece]:
            request, outputs = pair
            return shape(outputs if encode is None else encode(outputs, context), request, limit)

        return run


def shape(
    outputs: Any, request: ChatRequest | CompletionRequest, limit: int | None = None
) -> Iterator[Piece]:
    """Pieces as the client gets them; the last one always carries the finish reason."""
    stops = StopFilter(request.stops)
    limit = request.max_tokens or limit
    count, prompt_tokens = 0, None
    try:
        for output in outputs:
            piece = output if isinstance(output, Piece) else Piece(str(output))
            count += piece.tokens
            prompt_tokens = piece.prompt_tokens if piece.prompt_tokens is not None else prompt_tokens
            piece.text = stops.feed(piece.text)
            reason = _ending(piece, stops.hit, limit is not None and count >= limit)
            if reason is not None:
                yield _last(piece, reason, "" if stops.hit else stops.rest())
                return
            yield piece
        yield Piece(stops.rest(), tokens=0, finish_reason="stop", prompt_tokens=prompt_tokens)
    finally:
        close = getattr(outputs, "close", None)
        if close is not None:
            close()


def _ending(piece: Piece, stopped: bool, full: bool) -> FinishReason | None:
    if stopped:
        return "stop"
    return piece.finish_reason or ("length" if full else None)


def _last(piece: Piece, reason: FinishReason, rest: str) -> Piece:
    piece.text += rest
    piece.finish_reason = reason
    return piece
