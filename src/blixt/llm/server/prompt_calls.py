"""Tools in prompts and answers: told to models that know none, and calls as forms an answer may take."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from blixt.llm.chat.answers import AnswerKind

if TYPE_CHECKING:
    from blixt.llm.engine.grammar import Format

DEFINITIONS = ("$defs", "definitions")
FINAL = "<|channel|>final<|message|>"
TOOL_HELP = (
    "You may call functions. To call one, write a JSON object with its name and arguments within tags:\n"
    '<tool_call>\n{{"name": "function", "arguments": {{"argument": "value"}}}}\n</tool_call>\n'
    "These are the functions:\n{tools}"
)


def told(messages: list[dict[str, Any]], tools: Sequence[Any]) -> list[dict[str, Any]]:
    """The conversation of a model whose template knows no tools: the system prompt tells of them."""
    listed = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    told = TOOL_HELP.format(tools=listed)
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{told}"}, *messages[1:]]
    return [{"role": "system", "content": told}, *messages]


def retold(message: dict[str, Any]) -> dict[str, Any]:
    """A message with calls, or a tool's answer, as plain messages."""
    if message["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
    calls = message.get("tool_calls")
    if not calls:
        return message
    texts = [json.dumps(_call_of(call), ensure_ascii=False) for call in calls]
    written = "\n".join(f"<tool_call>\n{text}\n</tool_call>" for text in texts)
    return {"role": message["role"], "content": f"{message.get('content') or ''}\n{written}".strip()}


def _call_of(call: dict[str, Any]) -> dict[str, Any]:
    function = cast("dict[str, Any]", call.get("function") or call)
    return {"name": function.get("name"), "arguments": function.get("arguments")}


def call_format(tools: Sequence[Any]) -> "Format":
    """JSON that is a call of one of some tools."""
    from blixt.llm.engine.grammar import Format

    forms = [Format.json_schema(_call_schema(tool["function"])) for tool in tools]
    return forms[0] if len(forms) == 1 else Format.either([("", form) for form in forms])


def answer_or_call(answer: "Format", tools: Sequence[Any], kind: AnswerKind, template: str) -> "Format":
    """An answer of some form, or one call in the model's own way of writing.

    Args:
        answer: The form.
        tools: What may be called.
        kind: How the model writes.
        template: The text of its chat template, which shows how it writes calls.
    """
    from blixt.llm.engine.grammar import Format

    before = FINAL if kind.harmony else ""
    calls = [_call_branch(tool["function"], kind, template) for tool in tools]
    return Format.either([(before, answer), *((text, Format.json_schema(form)) for text, form in calls)])


def _call_branch(function: Any, kind: AnswerKind, template: str) -> tuple[str, Any]:
    """What begins a call of a function, and the schema of the JSON behind it."""
    name, parameters = function["name"], _parameters(function)
    if kind.harmony:
        return f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>", parameters
    syntax = kind.calls.name if kind.calls is not None else "tagged"
    if syntax == "mistral":
        if "[ARGS]" in template:
            return f"[TOOL_CALLS]{name}[ARGS]", parameters
        one = _call_schema(function)
        defined = {word: one.pop(word) for word in DEFINITIONS if word in one}
        return "[TOOL_CALLS]", {"type": "array", "items": one, "minItems": 1, "maxItems": 1, **defined}
    if syntax == "deepseek":
        begin, fenced = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>", "```json" in template
        written = f"function<｜tool▁sep｜>{name}\n```json\n" if fenced else f"{name}<｜tool▁sep｜>"
        return begin + written, parameters
    if syntax == "llama":
        return "", _call_schema(function, "parameters")
    return (f"{name}\n", parameters) if syntax == "named" else ("<tool_call>\n", _call_schema(function))


def _call_schema(function: Any, key: str = "arguments") -> dict[str, Any]:
    """The JSON of a call; what the function's own schema defines moves to the top, where `$ref` looks."""
    parameters = _parameters(function)
    defined = {word: parameters.pop(word) for word in DEFINITIONS if word in parameters}
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, key: parameters},
        "required": ["name", key],
        "additionalProperties": False,
        **defined,
    }


def _parameters(function: Any) -> dict[str, Any]:
    return dict(function.get("parameters") or {"type": "object"})
