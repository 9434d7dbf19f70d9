"""Conversations as templates want them: plain values, text content, arguments as objects."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from blixt.llm.errors import PromptError

Message = Mapping[str, Any]
REASONING = ("reasoning_content", "thinking", "reasoning")


def plain_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages rebuilt from plain JSON values; reasoning is under all the names that templates read.

    Tool calls' arguments become objects (OpenAI's clients send them as JSON text), and the parts of a content
    that is a list of texts are joined.

    Raises:
        PromptError: A message is no mapping with a role, or holds something that is not text.
    """
    return [_plain_message(message, index) for index, message in enumerate(messages)]


def _plain_message(message: Message, index: int) -> dict[str, Any]:
    if not isinstance(cast("object", message), Mapping) or not isinstance(message.get("role"), str):
        raise PromptError(f"message {index} is no mapping with a 'role'")
    out = {str(key): plain(value) for key, value in message.items()}
    if isinstance(out.get("content"), list):
        out["content"] = _joined(out["content"], index)
    content = out.get("content")
    if content is not None and not isinstance(content, str):
        raise PromptError(f"message {index} has no text under 'content'")
    if content is None and not any(out.get(key) for key in ("tool_calls", *REASONING)):
        raise PromptError(f"message {index} has no text under 'content'")
    thought = next((out[key] for key in REASONING if out.get(key) is not None), None)
    if thought is not None:
        out = {"thinking": thought, **out, "reasoning_content": thought}
    if out.get("tool_calls"):
        out["tool_calls"] = [_plain_call(call, index) for call in out["tool_calls"]]
    elif "tool_calls" in out:
        del out["tool_calls"]
    return out


def _joined(parts: Sequence[Any], index: int) -> str:
    texts: list[str] = []
    for part in parts:
        fields = cast("dict[str, Any]", part) if isinstance(part, dict) else {"type": type(part).__name__}
        kind = fields.get("type", "text")
        text = fields.get("text") if kind == "text" else None
        if not isinstance(text, str):
            raise PromptError(f"message {index} has a part of type {kind!r}; this model reads text only")
        texts.append(text)
    return "".join(texts)


def _plain_call(call: Any, index: int) -> dict[str, Any]:
    if not isinstance(call, dict):
        raise PromptError(f"message {index} has a tool call that is no mapping")
    fields = cast("dict[str, Any]", call)
    function = fields.get("function")
    if isinstance(function, dict):
        inner = cast("dict[str, Any]", function)
        return fields | {"function": inner | {"arguments": _arguments(inner.get("arguments", {}))}}
    if "name" not in fields:
        raise PromptError(f"message {index} has a tool call without a function's name")
    return fields | {"arguments": _arguments(fields.get("arguments", {}))}


def _arguments(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments) if arguments.strip() else {}
    except ValueError:
        return arguments


def plain(value: Any) -> Any:
    """A value as the JSON types that a template may see; anything else becomes its type's name."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("Sequence[Any]", value)]
    return f"<{type(value).__name__}>"
