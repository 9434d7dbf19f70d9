"""OpenAI's JSON: bodies to checked requests, pieces to answers, failures to error objects. Pure."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from blixt.serve.codec import decoder_for, to_json
from blixt.serve.errors import HTTPError
from blixt.serve.specs.openai_types import ChatRequest, CompletionRequest, Piece

_readers = {
    ChatRequest: decoder_for(ChatRequest, "/v1/chat/completions"),
    CompletionRequest: decoder_for(CompletionRequest, "/v1/completions"),
}
ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
ERROR_CODES = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded"}


def read_request(
    kind: "type[ChatRequest] | type[CompletionRequest]", body: bytes, model: str
) -> ChatRequest | CompletionRequest:
    """A client's body, checked and normalised.

    Raises:
        HTTPError: 400 if it is not what OpenAI's API takes, 404 if it asks for another model.
    """
    try:
        request = _readers[kind](body)
    except HTTPError as error:
        raise HTTPError(400, error.detail) from None
    if request.model != model:
        detail = {"message": f"The model {request.model!r} does not exist; this server has {model!r}."}
        raise HTTPError(404, {**detail, "code": "model_not_found", "param": "model"})
    if isinstance(request, ChatRequest):
        request.max_tokens = request.max_completion_tokens or request.max_tokens
        _require(bool(request.messages), "messages", "is empty")
    else:
        request.prompt = _one_prompt(request.prompt)
    _require(request.n in (None, 1), "n", "must be 1")
    _require(request.max_tokens is None or request.max_tokens > 0, "max_tokens", "must be above 0")
    _require(
        request.temperature is None or 0 <= request.temperature <= 2, "temperature", "must be from 0 to 2"
    )
    _require(request.top_p is None or 0 < request.top_p <= 1, "top_p", "must be above 0 and at most 1")
    return request


def error_body(status: int, detail: object) -> bytes:
    """An error in OpenAI's shape."""
    error: dict[str, Any] = {
        "message": _sentence(detail),
        "type": ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error"),
        "param": None,
        "code": ERROR_CODES.get(status),
    }
    if isinstance(detail, dict):
        error |= {key: detail[key] for key in ("param", "code") if key in detail}
    return to_json({"error": error})


def models_body(model: str, created: int) -> bytes:
    """The answer of `/v1/models`."""
    return to_json({"object": "list", "data": [model_object(model, created)]})


def model_object(model: str, created: int) -> dict[str, Any]:
    """One model of `/v1/models`."""
    return {"id": model, "object": "model", "created": created, "owned_by": "blixt"}


@dataclass(slots=True)
class Answer:
    """An answer being put together, streamed or whole."""

    request: ChatRequest | CompletionRequest
    id: str = ""
    created: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = "stop"
    texts: list[str] = field(default_factory=list[str])
    tool_calls: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])

    def __post_init__(self) -> None:
        prefix = "chatcmpl" if self.chat else "cmpl"
        self.id = f"{prefix}-{os.urandom(12).hex()}"
        self.created = int(time.time())

    @property
    def chat(self) -> bool:
        """Whether this answers a conversation."""
        return isinstance(self.request, ChatRequest)

    @property
    def usage(self) -> dict[str, int]:
        """Tokens so far."""
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }

    def add(self, piece: Piece) -> None:
        """Count a piece in."""
        self.completion_tokens += piece.tokens
        if piece.prompt_tokens is not None:
            self.prompt_tokens = piece.prompt_tokens
        for call in piece.tool_calls or ():
            _merge_call(self.tool_calls.setdefault(call.get("index", 0), {}), call)
        if piece.finish_reason:
            calls = piece.finish_reason == "stop" and self.tool_calls
            self.finish_reason = "tool_calls" if calls else piece.finish_reason

    def whole(self, pieces: Iterable[Piece]) -> bytes:
        """The answer in one body."""
        for piece in pieces:
            self.add(piece)
            self.texts.append(piece.text)
        text = "".join(self.texts)
        choice: dict[str, Any] = {"index": 0, "finish_reason": self.finish_reason, "logprobs": None}
        if self.chat:
            message: dict[str, Any] = {
                "role": "assistant",
                "content": text or (None if self.tool_calls else ""),
            }
            if self.tool_calls:
                message["tool_calls"] = [call for _, call in sorted(self.tool_calls.items())]
            choice["message"] = message
        else:
            choice["text"] = text
        return to_json({**self._head("chat.completion"), "choices": [choice], "usage": self.usage})

    def opening(self) -> list[dict[str, Any]]:
        """The chunks before the first piece."""
        return [self._chunk({"delta": {"role": "assistant", "content": ""}}, None)] if self.chat else []

    def chunks(self, piece: Piece) -> list[dict[str, Any]]:
        """The chunks that carry one piece."""
        self.add(piece)
        out: list[dict[str, Any]] = []
        if piece.text or piece.tool_calls:
            out.append(self._chunk(self._delta(piece), None))
        if piece.finish_reason:
            out.append(self._chunk({"delta": {}} if self.chat else {"text": ""}, self.finish_reason))
        return out

    def closing(self) -> list[dict[str, Any]]:
        """The chunk after the last piece: usage, if the client asked for it."""
        if not self._with_usage:
            return []
        return [{**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage}]

    @property
    def _with_usage(self) -> bool:
        options = self.request.stream_options
        return options is not None and options.include_usage

    def _delta(self, piece: Piece) -> dict[str, Any]:
        if not self.chat:
            return {"text": piece.text}
        delta: dict[str, Any] = {"content": piece.text} if piece.text else {}
        if piece.tool_calls:
            delta["tool_calls"] = piece.tool_calls
        return {"delta": delta}

    def _chunk(self, content: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, **content, "finish_reason": finish_reason, "logprobs": None}
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return {**chunk, "usage": None} if self._with_usage else chunk

    def _head(self, chat_object: str) -> dict[str, Any]:
        kind = chat_object if self.chat else "text_completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.request.model}


def _merge_call(into: dict[str, Any], call: dict[str, Any]) -> None:
    """Add one tool-call delta: the arguments' text grows, the rest is set once."""
    function = into.setdefault("function", {"name": "", "arguments": ""})
    delta: dict[str, Any] = call.get("function") or {}
    function["name"] = delta.get("name") or function["name"]
    function["arguments"] += delta.get("arguments") or ""
    into |= {key: value for key, value in call.items() if key not in ("index", "function")}
    into.setdefault("type", "function")


def _one_prompt(prompt: str | list[int | str | list[int]]) -> Any:
    """A text, or a list of token ids; a list of one prompt is that prompt."""
    if isinstance(prompt, str) or (prompt and all(isinstance(token, int) for token in prompt)):
        return prompt
    _require(len(prompt) == 1, "prompt", "must be one prompt; send several requests")
    return prompt[0]


def _require(condition: bool, param: str, what: str) -> None:
    if not condition:
        raise HTTPError(400, {"message": f"'{param}' {what}.", "param": param, "code": "invalid_value"})


def _sentence(detail: object) -> str:
    if isinstance(detail, dict):
        fields = cast(dict[str, Any], detail)
        return str(fields.get("message", fields))
    if isinstance(detail, list):
        return "; ".join(_item_sentence(item) for item in cast(list[Any], detail))
    return str(detail)


def _item_sentence(item: Any) -> str:
    """One validation item in FastAPI's shape, or whatever a hook put there."""
    try:
        return f"{'.'.join(str(part) for part in item['loc'][1:]) or 'body'}: {item['msg']}"
    except (TypeError, KeyError):
        return str(item)
