"""One request while it is answered: the engine's updates as pieces for the client."""

import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from blixt.llm.chat.answers import Part
from blixt.llm.server.prompt import Prepared
from blixt.llm.server.requests import ChatBody, CompletionBody
from blixt.llm.tokenizer import Detokenizer, Tokenizer
from blixt.serve.specs.openai_types import FinishReason, Piece, TokenLogprob
from blixt.serve.specs.openai_wire import new_id
from blixt.serve.specs.stops import StopFilter

if TYPE_CHECKING:
    from blixt.llm.engine.request import TokenLogprob as IdLogprob
    from blixt.llm.engine.request import Update


class Turn:
    """Makes pieces of one request's updates.

    Args:
        request: What was asked.
        prepared: How its answer is to be taken.
        tokenizer: The model's.
        hidden: Ids that are never shown, unless the parser needs them.

    Attributes:
        done: The answer has ended, for the client; the engine may not know yet.
    """

    def __init__(
        self,
        request: ChatBody | CompletionBody,
        prepared: Prepared,
        tokenizer: Tokenizer,
        hidden: Collection[int],
    ) -> None:
        self.done = False
        self._tokenizer = tokenizer
        self._parser = prepared.parser
        self._detokenizer = Detokenizer(tokenizer, skip_special=False)
        self._hidden = frozenset(hidden) - prepared.keep
        self._stops = StopFilter(request.stops)
        self._calls = 0
        self._most_calls = (
            1 if isinstance(request, ChatBody) and request.parallel_tool_calls is False else 1 << 30
        )
        self._thinking = False
        self._echo = prepared.ids if isinstance(request, CompletionBody) and request.echo else None
        self._only_prompt = request.extras.only_prompt
        self._wants_logprobs = request.logprobs not in (None, False)
        self._tokens = 0
        self._first_s = self._last_s = 0.0

    def take(self, update: "Update") -> Piece | None:
        """What an update is to the client; None if nothing yet."""
        piece = Piece(tokens=len(update.tokens), prompt_tokens=update.prompt_tokens)
        piece.cached_tokens = update.cached_tokens
        self._time(len(update.tokens))
        if self._echo is not None and (update.tokens or update.finish_reason):
            self._echo_prompt(piece, update)
        if self._only_prompt:
            piece.tokens = 0
            self._end(piece, "length")
            return piece
        self._add(piece, [token for token in update.tokens if token not in self._hidden])
        if self._wants_logprobs:
            shown = [one for one in update.logprobs if one.token not in self._hidden]
            piece.logprobs = [*(piece.logprobs or ()), *map(self._named, shown)]
        if update.finish_reason in ("stop", "length") and not self.done:
            self._finish(piece)
            self._end(piece, "length" if update.finish_reason == "length" else "stop")
        empty = not (
            piece.text or piece.reasoning or piece.tool_calls or piece.logprobs or piece.finish_reason
        )
        return None if empty and not piece.tokens else piece

    def _add(self, piece: Piece, tokens: Sequence[int]) -> None:
        text = self._detokenizer.add_all(tokens)
        self._put(piece, self._parser.feed(text))
        if self._thinking:
            piece.reasoning_tokens = piece.tokens

    def _finish(self, piece: Piece) -> None:
        """What the detokeniser, the parser and the stop filter still hold."""
        self._put(piece, self._parser.feed(self._detokenizer.finish()))
        self._put(piece, self._parser.finish())
        if not self._stops.hit:
            piece.text += self._stops.rest()

    def _put(self, piece: Piece, parts: Sequence[Part]) -> None:
        for part in parts:
            if self.done:
                return
            self._thinking = part.kind == "reasoning"
            if part.kind == "reasoning":
                piece.reasoning += part.text
            elif part.kind == "content":
                piece.text += self._stops.feed(part.text)
                if self._stops.hit:
                    self._end(piece, "stop")
            else:
                self._call(piece, part)

    def _call(self, piece: Piece, part: Part) -> None:
        assert part.call is not None
        function = {"name": part.call.name, "arguments": part.call.arguments}
        call: dict[str, Any] = {"index": self._calls, "id": part.call.id or new_id("call_")}
        piece.tool_calls = [*(piece.tool_calls or ()), {**call, "type": "function", "function": function}]
        self._calls += 1
        if self._calls >= self._most_calls:
            self._end(piece, "stop")

    def _end(self, piece: Piece, reason: FinishReason) -> None:
        piece.finish_reason, self.done = reason, True
        if self._tokens > 1:
            piece.token_seconds = (self._last_s - self._first_s) / (self._tokens - 1)

    def _time(self, tokens: int) -> None:
        if tokens:
            self._last_s = time.monotonic()
            self._first_s = self._first_s or self._last_s
            self._tokens += tokens

    def _echo_prompt(self, piece: Piece, update: "Update") -> None:
        """The prompt before the answer, with its tokens' log-probabilities if they were asked for."""
        assert self._echo is not None
        ids, self._echo = self._echo, None
        piece.text = self._tokenizer.decode(ids, skip_special=False)
        if self._wants_logprobs:
            first = TokenLogprob(
                self._tokenizer.text_of(ids[0]), None, bytes=list(self._tokenizer.bytes_of(ids[0]))
            )
            piece.logprobs = [first, *map(self._named, update.prompt_logprobs)]

    def _named(self, logprob: "IdLogprob") -> TokenLogprob:
        top = [self._one(token, value) for token, value in logprob.top]
        return self._one(logprob.token, logprob.logprob, top)

    def _one(self, token: int, logprob: float | None, top: Sequence[TokenLogprob] = ()) -> TokenLogprob:
        text = self._tokenizer.text_of(token)
        return TokenLogprob(text, logprob, list(top), list(self._tokenizer.bytes_of(token)))
