"""What OpenAI's routes share: error objects, models, usage. Pure."""

import os
from dataclasses import dataclass
from typing import Any, cast

from blixt.serve.codec import to_json
from blixt.serve.specs.openai_types import Piece

ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
ERROR_CODES = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded"}


def new_id(prefix: str) -> str:
    """An id as OpenAI's look, `prefix` and 24 hex digits."""
    return f"{prefix}{os.urandom(12).hex()}"


def error_body(status: int, detail: object) -> bytes:
    """An error in OpenAI's shape."""
    return to_json({"error": error_object(status, detail)})


def error_object(status: int, detail: object) -> dict[str, Any]:
    """What stands under "error"."""
    error: dict[str, Any] = {
        "message": _sentence(detail),
        "type": ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error"),
        "param": None,
        "code": ERROR_CODES.get(status),
    }
    if isinstance(detail, dict):
        error |= {key: detail[key] for key in ("param", "code") if key in detail}
    return error


def models_body(models: list[str], created: int) -> bytes:
    """The answer of `/v1/models`."""
    return to_json({"object": "list", "data": [model_object(model, created) for model in models]})


def model_object(model: str, created: int) -> dict[str, Any]:
    """One model of `/v1/models`."""
    return {"id": model, "object": "model", "created": created, "owned_by": "blixt"}


@dataclass(slots=True)
class Usage:
    """Tokens of an answer so far."""

    prompt: int = 0
    completion: int = 0
    cached: int | None = None
    reasoning: int = 0
    token_seconds: float | None = None

    def add(self, piece: Piece) -> None:
        """Count a piece in."""
        self.completion += piece.tokens
        self.reasoning += piece.reasoning_tokens
        if piece.prompt_tokens is not None:
            self.prompt = piece.prompt_tokens
        if piece.cached_tokens is not None:
            self.cached = piece.cached_tokens
        if piece.token_seconds is not None:
            self.token_seconds = piece.token_seconds

    def completions(self) -> dict[str, Any]:
        """As chat and completions tell it."""
        return self._named("prompt", "completion")

    def responses(self) -> dict[str, Any]:
        """As responses tell it."""
        usage = self._named("input", "output")
        usage["input_tokens_details"] = {"cached_tokens": self.cached or 0, "cache_write_tokens": 0}
        usage["output_tokens_details"] = {"reasoning_tokens": self.reasoning}
        return usage

    def _named(self, prompt: str, completion: str) -> dict[str, Any]:
        usage: dict[str, Any] = {
            f"{prompt}_tokens": self.prompt,
            f"{completion}_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }
        if self.cached is not None:
            usage[f"{prompt}_tokens_details"] = {"cached_tokens": self.cached}
        if self.reasoning:
            usage[f"{completion}_tokens_details"] = {"reasoning_tokens": self.reasoning}
        return usage


def merge_call(into: dict[str, Any], call: dict[str, Any]) -> None:
    """Add one tool-call delta: the arguments' text grows, the rest is set once."""
    function = into.setdefault("function", {"name": "", "arguments": ""})
    delta: dict[str, Any] = call.get("function") or {}
    function["name"] = delta.get("name") or function["name"]
    function["arguments"] += delta.get("arguments") or ""
    into |= {key: value for key, value in call.items() if key not in ("index", "function")}
    into.setdefault("type", "function")


def call_delta(call: dict[str, Any]) -> dict[str, Any]:
    """A tool-call delta as clients want it: which call it is of, and at its begin that it is a function's."""
    function: dict[str, Any] = call.get("function") or {}
    begins = "id" in call or bool(function.get("name"))
    return {"index": 0, **({"type": "function"} if begins else {}), **call}


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
