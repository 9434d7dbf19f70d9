"""Pieces put into the shapes of OpenAI's chat and completion answers, streamed or whole. Pure."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from blixt.serve.codec import to_json
from blixt.serve.errors import Failure
from blixt.serve.http.sse import event
from blixt.serve.specs.base import Call
from blixt.serve.specs.openai_logprobs import chat_logprobs, completion_logprobs
from blixt.serve.specs.openai_requests import prompts_of, require
from blixt.serve.specs.openai_types import ChatRequest, CompletionRequest, Piece
from blixt.serve.specs.openai_wire import Usage, call_delta, error_body, merge_call, new_id

_piece = msgspec.json.Decoder(Piece)
DONE = event(b"[DONE]")
R = TypeVar("R", ChatRequest, CompletionRequest)


@dataclass(slots=True)
class Choice:
    """One choice of an answer being put together."""

    usage: Usage = field(default_factory=Usage)
    finish_reason: str = "stop"
    text: list[str] = field(default_factory=list[str])
    reasoning: list[str] = field(default_factory=list[str])
    refusal: list[str] = field(default_factory=list[str])
    logprobs: list[Any] = field(default_factory=list[Any])
    tool_calls: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    sent_chars: int = 0

    def add(self, piece: Piece) -> None:
        """Count a piece in."""
        self.usage.add(piece)
        for call in piece.tool_calls or ():
            merge_call(self.tool_calls.setdefault(call.get("index", 0), {}), call)
        if piece.finish_reason:
            called = piece.finish_reason == "stop" and self.tool_calls
            self.finish_reason = "tool_calls" if called else piece.finish_reason

    def keep(self, piece: Piece) -> None:
        """Keep a piece for a whole answer."""
        self.add(piece)
        for texts, text in (
            (self.text, piece.text),
            (self.reasoning, piece.reasoning),
            (self.refusal, piece.refusal),
        ):
            if text:
                texts.append(text)
        self.logprobs += piece.logprobs or ()


class CompletionCall(Call):
    """An answer to `/v1/chat/completions` or `/v1/completions`: choices side by side."""

    def __init__(self, request: ChatRequest | CompletionRequest, max_choices: int = 16) -> None:
        requests = split(request, max_choices)
        super().__init__([to_json(one) for one in requests], bool(request.stream))
        self.request = request
        self.chat = isinstance(request, ChatRequest)
        self.id = new_id("chatcmpl-" if self.chat else "cmpl-")
        self.created = int(time.time())
        self.choices = [Choice() for _ in requests]
        self._per_prompt = request.n or 1
        options = request.stream_options
        self._with_usage = options is not None and options.include_usage
        self._chunk_head = to_json(self._head("chat.completion.chunk"))[:-1] + b',"choices":['
        self._chunk_tail = b'],"usage":null}' if self._with_usage else b"]}"

    @property
    def usage(self) -> Usage:
        """Tokens of all choices; a prompt with several choices counts once."""
        total = Usage(
            prompt=sum(choice.usage.prompt for choice in self.choices[:: self._per_prompt]),
            completion=sum(choice.usage.completion for choice in self.choices),
            reasoning=sum(choice.usage.reasoning for choice in self.choices),
        )
        cached = [choice.usage.cached for choice in self.choices[:: self._per_prompt]]
        if any(count is not None for count in cached):
            total.cached = sum(count or 0 for count in cached)
        return total

    @property
    def tokens(self) -> tuple[int, int]:
        """Prompt and completion tokens, for the metrics."""
        usage = self.usage
        return usage.prompt, usage.completion

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens from a cache, for the metrics."""
        return self.usage.cached or 0

    @property
    def token_seconds(self) -> Sequence[float]:
        """Seconds between each choice's tokens, for the metrics."""
        seconds = [choice.usage.token_seconds for choice in self.choices]
        return [one for one in seconds if one is not None]

    def whole(self, outputs: list[list[bytes]]) -> bytes:
        """The answer in one body."""
        for choice, payloads in zip(self.choices, outputs, strict=True):
            for payload in payloads:
                choice.keep(_piece.decode(payload))
        body = self._head("chat.completion")
        body["choices"] = [self._whole_choice(index) for index in range(len(self.choices))]
        return to_json({**body, "usage": self.usage.completions()})

    def opening(self) -> bytes:
        """Every choice's role; echoed prompts."""
        if self.chat:
            first: dict[str, Any] = {"delta": {"role": "assistant", "content": ""}}
            return b"".join(self._chunk(index, first) for index in range(len(self.choices)))
        return b"".join(
            self._chunk(index, {"text": self._echo(index)})
            for index in range(len(self.choices))
            if self._echo(index)
        )

    def piece(self, index: int, payload: bytes) -> bytes:
        """The chunks that carry one piece of one choice."""
        piece = _piece.decode(payload)
        choice = self.choices[index]
        choice.add(piece)
        empty: dict[str, Any] = {"delta": {}} if self.chat else {"text": ""}
        content = self._delta(piece)
        logprobs = self._logprobs(piece.logprobs, index)
        out = self._chunk(index, content or empty, logprobs=logprobs) if content or logprobs else b""
        choice.sent_chars += len(piece.text)
        if piece.finish_reason:
            out += self._chunk(index, empty, choice.finish_reason)
        return out

    def closing(self) -> bytes:
        """Usage, if the client asked for it, and the end mark."""
        if not self._with_usage:
            return DONE
        last = self._head("chat.completion.chunk")
        return event(to_json({**last, "choices": (), "usage": self.usage.completions()})) + DONE

    def failed(self, failure: Failure) -> bytes:
        """An error object, which OpenAI's clients raise."""
        return event(error_body(failure.status, failure.detail))

    def _whole_choice(self, index: int) -> dict[str, Any]:
        choice = self.choices[index]
        text = "".join(choice.text)
        body: dict[str, Any] = {"index": index, "finish_reason": choice.finish_reason}
        body["logprobs"] = self._logprobs(choice.logprobs, index)
        if not self.chat:
            return {**body, "text": self._echo(index) + text}
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text or (None if choice.tool_calls or choice.refusal else ""),
            "refusal": "".join(choice.refusal) or None,
        }
        if choice.reasoning:
            message["reasoning_content"] = "".join(choice.reasoning)
        if choice.tool_calls:
            message["tool_calls"] = [call for _, call in sorted(choice.tool_calls.items())]
        return {**body, "message": message}

    def _delta(self, piece: Piece) -> dict[str, Any] | None:
        if not self.chat:
            return {"text": piece.text} if piece.text else None
        fields = {
            "content": piece.text,
            "reasoning_content": piece.reasoning,
            "refusal": piece.refusal,
            "tool_calls": [call_delta(call) for call in piece.tool_calls or ()],
        }
        delta = {name: value for name, value in fields.items() if value}
        return {"delta": delta} if delta else None

    def _logprobs(self, tokens: Any, index: int) -> dict[str, Any] | None:
        request = self.request
        if not tokens:
            return None
        if isinstance(request, ChatRequest):
            return chat_logprobs(tokens, request.top_logprobs or 0) if request.logprobs else None
        if request.logprobs is None:
            return None
        offset = len(self._echo(index)) + self.choices[index].sent_chars
        return completion_logprobs(tokens, request.logprobs, offset)

    def _echo(self, index: int) -> str:
        request = self.request
        if not isinstance(request, CompletionRequest) or not request.echo:
            return ""
        return str(prompts_of(request)[index // self._per_prompt])

    def _chunk(
        self,
        index: int,
        content: dict[str, Any],
        finish_reason: str | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> bytes:
        choice = {"index": index, **content, "finish_reason": finish_reason, "logprobs": logprobs}
        return event(self._chunk_head + to_json(choice) + self._chunk_tail)

    def _head(self, chat_object: str) -> dict[str, Any]:
        kind = chat_object if self.chat else "text_completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.request.model}


def split(
    request: ChatRequest | CompletionRequest, max_choices: int
) -> Sequence[ChatRequest | CompletionRequest]:
    """One request for each choice of each prompt; a seed differs from choice to choice, or they would not."""
    count = request.n or 1
    if isinstance(request, ChatRequest):
        require(count <= max_choices, "n", f"must be at most {max_choices}")
        return [_choice(request, index) for index in range(count)]
    prompts = prompts_of(request)
    many = count * len(prompts)
    require(many <= max_choices, "prompt", f"times n must be at most {max_choices} answers, not {many}")
    return [
        msgspec.structs.replace(_choice(request, index % count), prompt=prompts[index // count], choice=index)
        for index in range(many)
    ]


def _choice(request: R, index: int) -> R:
    seed = None if request.seed is None else request.seed + index
    return msgspec.structs.replace(request, n=1, choice=index, seed=seed)
