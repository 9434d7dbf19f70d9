"""Pieces as the items and events of `/v1/responses`. Pure.

An answer is a list of items: thinking, a message, function calls. Whole, it is the list that the events of a
stream would have built, so both ways share one builder.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from blixt.serve.codec import to_json
from blixt.serve.errors import Failure
from blixt.serve.http.sse import event
from blixt.serve.specs.base import Call
from blixt.serve.specs.openai_logprobs import token_logprobs
from blixt.serve.specs.openai_responses import ResponseRequest
from blixt.serve.specs.openai_types import ChatRequest, Piece
from blixt.serve.specs.openai_wire import Usage, error_object, new_id

_piece = msgspec.json.Decoder(Piece)
Event = dict[str, Any]
REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}


@dataclass(slots=True)
class Item:
    """One item of the answer, open until something else begins."""

    kind: str
    index: int
    body: dict[str, Any]
    texts: list[str] = field(default_factory=list[str])
    logprobs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def text(self) -> str:
        """All of it so far."""
        return "".join(self.texts)


class ResponseCall(Call):
    """An answer to `/v1/responses`, streamed or whole."""

    def __init__(self, request: ResponseRequest, chat: ChatRequest) -> None:
        super().__init__([to_json(chat)], bool(request.stream))
        self.id = new_id("resp_")
        self.usage = Usage()
        self._request = request
        self._top_logprobs = chat.top_logprobs or 0
        self._with_logprobs = bool(chat.logprobs)
        self._created = int(time.time())
        self._sequence = 0
        self._items: list[dict[str, Any]] = []
        self._open: Item | None = None
        self._reason = "stop"
        self._calls: dict[int, str] = {}

    @property
    def tokens(self) -> tuple[int, int]:
        """Prompt and completion tokens, for the metrics."""
        return self.usage.prompt, self.usage.completion

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens from a cache, for the metrics."""
        return self.usage.cached or 0

    @property
    def token_seconds(self) -> Sequence[float]:
        """Seconds between the answer's tokens, for the metrics."""
        return () if self.usage.token_seconds is None else (self.usage.token_seconds,)

    def whole(self, outputs: list[list[bytes]]) -> bytes:
        """The answer in one body."""
        for payload in outputs[0]:
            self._take(_piece.decode(payload))
        self._close()
        return to_json(self._response(self._status))

    def opening(self) -> bytes:
        """The answer exists, and is being made."""
        response = self._response("in_progress")
        return self._events(
            {"type": "response.created", "response": response},
            {"type": "response.in_progress", "response": response},
        )

    def piece(self, index: int, payload: bytes) -> bytes:
        """The events of one piece."""
        return self._events(*self._take(_piece.decode(payload)))

    def closing(self) -> bytes:
        """The end of what is open, and the whole answer once more."""
        events = self._close()
        kind = f"response.{self._status}"
        return self._events(*events, {"type": kind, "response": self._response(self._status)})

    def failed(self, failure: Failure) -> bytes:
        """An error event, and the answer as far as it came, marked as failed."""
        events = self._close("incomplete")
        error = error_object(failure.status, failure.detail)
        response = self._response("failed")
        response["error"] = {"code": error["code"] or "server_error", "message": error["message"]}
        told = {"type": "error", "code": error["code"], "message": error["message"], "param": error["param"]}
        return self._events(*events, told, {"type": "response.failed", "response": response})

    @property
    def _status(self) -> str:
        return "incomplete" if self._reason in REASONS else "completed"

    def _take(self, piece: Piece) -> list[Event]:
        self.usage.add(piece)
        events: list[Event] = []
        if piece.reasoning:
            events += self._text("reasoning", piece.reasoning, [])
        if piece.refusal:
            events += self._text("refusal", piece.refusal, [])
        if piece.text:
            tokens = piece.logprobs if self._with_logprobs else None
            events += self._text("message", piece.text, token_logprobs(tokens or (), self._top_logprobs))
        for call in piece.tool_calls or ():
            events += self._call(call)
        if piece.finish_reason:
            self._reason = piece.finish_reason
        return events

    def _text(self, kind: str, text: str, logprobs: list[dict[str, Any]]) -> list[Event]:
        events = [] if self._open is not None and self._open.kind == kind else self._begin(kind)
        item = self._current
        item.texts.append(text)
        item.logprobs += logprobs
        delta: Event = {"type": f"{_PART[kind][1]}.delta", **self._place(item), "delta": text}
        if kind == "message":
            delta["logprobs"] = logprobs
        return [*events, delta]

    def _call(self, call: dict[str, Any]) -> list[Event]:
        number = call.get("index", 0)
        function: dict[str, Any] = call.get("function") or {}
        events: list[Event] = []
        if number not in self._calls or self._open is None or self._open.kind != f"call {number}":
            events += self._begin(f"call {number}", call_id=call.get("id"), name=function.get("name"))
            self._calls[number] = self._current.body["id"]
        delta = function.get("arguments") or ""
        item = self._current
        item.texts.append(delta)
        if delta:
            place = {"item_id": item.body["id"], "output_index": item.index}
            events.append({"type": "response.function_call_arguments.delta", **place, "delta": delta})
        return events

    def _begin(self, kind: str, call_id: str | None = None, name: str | None = None) -> list[Event]:
        events = self._close()
        body = _new_item(kind, call_id, name)
        item = self._open = Item(kind, len(self._items), body)
        self._items.append(body)
        events.append({"type": "response.output_item.added", "output_index": item.index, "item": dict(body)})
        if kind in _PART:
            part = _part_of(kind, "", [])
            events.append({"type": "response.content_part.added", **self._place(item), "part": part})
        return events

    def _close(self, status: str = "completed") -> list[Event]:
        """Finish the open item."""
        item, self._open = self._open, None
        if item is None:
            return []
        body = item.body
        body["status"] = "incomplete" if self._reason == "length" else status
        done: Event = {"type": "response.output_item.done", "output_index": item.index, "item": body}
        if item.kind not in _PART:
            body["arguments"] = item.text
            kind = "response.function_call_arguments.done"
            place = {"item_id": body["id"], "output_index": item.index}
            return [{"type": kind, **place, "name": body["name"], "arguments": item.text}, done]
        part = _part_of(item.kind, item.text, item.logprobs)
        body["content"] = [part]
        field_name, kind = _PART[item.kind]
        text: Event = {"type": f"{kind}.done", **self._place(item), field_name: item.text}
        if item.kind == "message":
            text["logprobs"] = item.logprobs
        return [text, {"type": "response.content_part.done", **self._place(item), "part": part}, done]

    @property
    def _current(self) -> Item:
        assert self._open is not None
        return self._open

    def _place(self, item: Item) -> dict[str, Any]:
        return {"item_id": item.body["id"], "output_index": item.index, "content_index": 0}

    def _events(self, *events: Event) -> bytes:
        out: list[bytes] = []
        for told in events:
            out.append(event(to_json({**told, "sequence_number": self._sequence}), told["type"]))
            self._sequence += 1
        return b"".join(out)

    def _response(self, status: str) -> dict[str, Any]:
        request = self._request
        ended = status != "in_progress"
        incomplete = {"reason": REASONS[self._reason]} if status == "incomplete" else None
        return {
            "id": self.id,
            "object": "response",
            "created_at": self._created,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": status,
            "error": None,
            "incomplete_details": incomplete,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "model": request.model,
            "output": self._items if ended else [],
            "parallel_tool_calls": request.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": msgspec.to_builtins(request.reasoning) if request.reasoning else None,
            "store": False,
            "temperature": request.temperature,
            "text": {"format": (request.text and request.text.format) or {"type": "text"}},
            "tool_choice": request.tool_choice or "auto",
            "tools": request.tools or [],
            "top_p": request.top_p,
            "truncation": request.truncation or "disabled",
            "usage": self.usage.responses() if ended else None,
            "user": request.user,
            "metadata": request.metadata or {},
        }


_PART = {
    "message": ("text", "response.output_text"),
    "refusal": ("refusal", "response.refusal"),
    "reasoning": ("text", "response.reasoning_text"),
}


def _new_item(kind: str, call_id: str | None, name: str | None) -> dict[str, Any]:
    text: dict[str, Any] = {"content": [], "status": "in_progress"}
    if kind == "reasoning":
        return {"id": new_id("rs_"), "type": "reasoning", "summary": [], **text}
    if kind in _PART:
        return {"id": new_id("msg_"), "type": "message", "role": "assistant", **text}
    return {
        "id": new_id("fc_"),
        "type": "function_call",
        "call_id": call_id or new_id("call_"),
        "name": name or "",
        "arguments": "",
        "status": "in_progress",
    }


def _part_of(kind: str, text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    if kind == "message":
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
    if kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "reasoning_text", "text": text}
