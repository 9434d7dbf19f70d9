"""How models write tool calls: one reader for each way, found by the template's markers."""

import ast
import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

NAME = re.compile(r"[A-Za-z_][\w.\-]*")


@dataclass(frozen=True)
class ToolCall:
    """A call of a function, as the model wrote it.

    Attributes:
        name: The function's.
        arguments: JSON text.
        id: The call's, if the model gives it one.
    """

    name: str
    arguments: str
    id: str | None = None


@dataclass(frozen=True)
class CallSyntax:
    """One way of writing tool calls.

    Attributes:
        name: What it is called.
        opening: Text that begins a call; empty if only an answer's beginning tells.
        closing: Text that ends it; empty if the next opening or the answer's end does.
        read: What stands between them as calls; raises `ValueError` if it is none.
        markers: All text of its own, special tokens perhaps.
        bare: Tells whether the beginning of an answer is a call without an opening, see `Bare`.
        prefix: What a prompt ends with so that the model writes a call as `{"name": ..., "arguments": ...}`.
    """

    name: str
    opening: str
    closing: str
    read: Callable[[str], list[ToolCall]]
    markers: tuple[str, ...] = ()
    bare: "Callable[[str, Collection[str]], bool | None] | None" = None
    prefix: str = ""


def read_object(text: str) -> list[ToolCall]:
    """Calls as JSON objects with "name" and "arguments" (or "parameters"), in a list or one by one.

    Raises:
        ValueError: It is none.
    """
    decoder, calls, at = json.JSONDecoder(), list[ToolCall](), 0
    text = text.strip()
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        items = cast("list[Any]", value) if isinstance(value, list) else [value]
        calls += [_from_object(item) for item in items]
        at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n;,"))
    if not calls:
        raise ValueError("no call")
    return calls


def _from_object(item: Any) -> ToolCall:
    fields = cast("dict[str, Any]", item) if isinstance(item, dict) else {}
    function = fields.get("function")
    if isinstance(function, dict):
        fields = cast("dict[str, Any]", function)
    name = fields.get("name")
    arguments = next((fields[key] for key in ("arguments", "parameters") if key in fields), None)
    if not isinstance(name, str) or not name:
        raise ValueError("no name")
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if not isinstance(arguments, dict | None):
        raise ValueError("no arguments")
    return ToolCall(name, to_json(cast("object", arguments or {})), fields.get("id"))


def to_json(value: object) -> str:
    """Arguments as JSON text."""
    return json.dumps(value, ensure_ascii=False)


def read_tagged(text: str) -> list[ToolCall]:
    """What stands in `<tool_call>` tags: an object (Qwen, Hermes), or names and values in further tags.

    Raises:
        ValueError: It is no call.
    """
    stripped = text.strip()
    if stripped.startswith("<function="):
        return [_from_function_tag(stripped)]
    if stripped.startswith(("{", "[")):
        return read_object(stripped)
    return [_from_key_tags(stripped)]


def _from_function_tag(text: str) -> ToolCall:
    """`<function=NAME> <parameter=KEY> VALUE </parameter> ... </function>` (Qwen 3 Coder)."""
    head = re.match(r"<function=([^>\s]+)>", text)
    if head is None:
        raise ValueError("no name")
    pairs = re.findall(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", text[head.end() :], re.DOTALL)
    return ToolCall(head[1], to_json({key: _loose(value) for key, value in pairs}))


def _from_key_tags(text: str) -> ToolCall:
    """`NAME <arg_key>KEY</arg_key> <arg_value>VALUE</arg_value> ...` (GLM 4.5)."""
    name, _, rest = text.partition("<arg_key>")
    if not NAME.fullmatch(name.strip()):
        raise ValueError("no name")
    pairs = re.findall(
        r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", f"<arg_key>{rest}", re.DOTALL
    )
    return ToolCall(name.strip(), to_json({key.strip(): _loose(value) for key, value in pairs}))


def _loose(value: str) -> Any:
    """A value written without quotes: JSON if it is that, else text."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def read_mistral(text: str) -> list[ToolCall]:
    """`[{...}, ...]` (up to 2024), or `NAME[CALL_ID]ID[ARGS]{...}`.

    Raises:
        ValueError: It is no call.
    """
    if text.lstrip().startswith("["):
        return read_object(text)
    head, args, arguments = text.partition("[ARGS]")
    if not args:
        head, brace, rest = text.partition("{")
        arguments = brace + rest
    name, _, call_id = head.partition("[CALL_ID]")
    if not NAME.fullmatch(name.strip()):
        raise ValueError("no name")
    value, end = json.JSONDecoder().raw_decode(arguments.strip())
    if arguments.strip()[end:].strip() or not isinstance(value, dict):
        raise ValueError("no arguments")
    return [ToolCall(name.strip(), to_json(cast("object", value)), call_id.strip() or None)]


def read_llama(text: str) -> list[ToolCall]:
    """JSON objects, or Python calls such as `[f(x=1), g()]` (Llama 3 and 4).

    Raises:
        ValueError: It is neither.
    """
    stripped = text.strip()
    if stripped.startswith("{") or re.match(r"\[\s*\{", stripped):
        return read_object(stripped)
    return read_python(stripped)


def read_python(text: str) -> list[ToolCall]:
    """Python calls with literal keyword arguments, one or a list.

    Raises:
        ValueError: It is something else.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        calls = tree.elts if isinstance(tree, ast.List) else [tree]
        found = [_from_python(call) for call in calls]
    except (SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise ValueError(str(error)) from None
    if not found:
        raise ValueError("no call")
    return found


def _from_python(call: ast.expr) -> ToolCall:
    if not isinstance(call, ast.Call) or call.args or any(word.arg is None for word in call.keywords):
        raise ValueError("no call with named arguments")
    arguments = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    return ToolCall(ast.unparse(call.func), to_json(arguments))


def read_deepseek(text: str) -> list[ToolCall]:
    """`<｜tool▁call▁begin｜>` blocks: a kind, a name and fenced JSON (V3, R1), or a name and JSON (V3.1).

    Raises:
        ValueError: There is none.
    """
    calls: list[ToolCall] = []
    for block in text.split("<｜tool▁call▁begin｜>")[1:]:
        body = block.partition("<｜tool▁call▁end｜>")[0]
        head, _, rest = body.partition("<｜tool▁sep｜>")
        fenced = re.match(r"\s*(\S+)\s*```(?:json)?\s*(.*?)\s*(?:```)?\s*$", rest, re.DOTALL)
        name, arguments = (fenced[1], fenced[2]) if fenced else (head.strip(), rest.strip())
        value = json.loads(arguments)
        if not NAME.fullmatch(name) or not isinstance(value, dict):
            raise ValueError("no call")
        calls.append(ToolCall(name, to_json(cast("object", value))))
    if not calls:
        raise ValueError("no call")
    return calls


def read_named(text: str) -> list[ToolCall]:
    """A name, and on the next line a JSON object (GLM 4).

    Raises:
        ValueError: It is something else.
    """
    name, _, rest = text.strip().partition("\n")
    value = json.loads(rest)
    if not NAME.fullmatch(name.strip()) or not isinstance(value, dict):
        raise ValueError("no call")
    return [ToolCall(name.strip(), to_json(cast("object", value)))]


def begins_llama(text: str, names: Collection[str]) -> bool | None:
    """Whether an answer begins like a Llama 3 call: True, False, or None while it may go either way."""
    seen = text.lstrip()
    for shape in (r'{"name"', r'{"type"', r'{"function"', r'[{"name"', r'[{"type"'):
        matched = _matches_loosely(seen, shape)
        if matched is not False:
            return matched
    if seen[:1] == "[":
        inside = seen[1:].lstrip()
        word = NAME.match(inside)
        if not inside or (word and word.end() == len(inside)):
            return None
        return bool(word) and inside[word.end()] == "("  # pyright: ignore[reportOptionalMemberAccess] - a match
    return None if not seen else False


def _matches_loosely(text: str, shape: str) -> bool | None:
    """Whether a text begins with a shape, spaces between its characters allowed."""
    packed = "".join(text.split())[: len(shape)]
    if not shape.startswith(packed):
        return False
    return True if len(packed) == len(shape) else None


def begins_named(text: str, names: Collection[str]) -> bool | None:
    """Whether an answer begins with the name of a tool alone on its line."""
    seen = text.lstrip()
    line, newline, rest = seen.partition("\n")
    if newline:
        brace = rest.lstrip()[:1]
        return False if line.strip() not in names else (None if not brace else brace == "{")
    return None if any(name.startswith(line) for name in names) else False


SYNTAXES: Sequence[CallSyntax] = (
    CallSyntax(
        "tagged",
        "<tool_call>",
        "</tool_call>",
        read_tagged,
        ("<tool_call>", "</tool_call>"),
        prefix="<tool_call>\n",
    ),
    CallSyntax(
        "mistral",
        "[TOOL_CALLS]",
        "",
        read_mistral,
        ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"),
        prefix="[TOOL_CALLS]",
    ),
    CallSyntax(
        "deepseek",
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁calls▁end｜>",
        read_deepseek,
        tuple(f"<｜tool▁{word}｜>" for word in ("calls▁begin", "calls▁end", "call▁begin", "call▁end", "sep")),
    ),
    CallSyntax("llama", "<|python_tag|>", "", read_llama, ("<|python_tag|>",), bare=begins_llama),
    CallSyntax("named", "", "", read_named, bare=begins_named),
)
HINTS = {
    "tagged": ("<tool_call>",),
    "mistral": ("[TOOL_CALLS]",),
    "deepseek": ("<｜tool▁calls▁begin｜>",),
    "llama": ("<|python_tag|>", "[func_name1(", '{"name": function name'),
    "named": ("<|observation|>",),
}


def syntax_of(text: str) -> CallSyntax | None:
    """The way of writing calls whose markers a template's text holds; None if it holds none."""
    for syntax in SYNTAXES:
        if any(hint in text for hint in HINTS[syntax.name]):
            return syntax
    return None
