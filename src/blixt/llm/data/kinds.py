"""From a row's fields to an example: which kind it is, and where a field is missing or of the wrong type."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

from blixt.llm.data.examples import (
    Answered,
    Chat,
    Completion,
    Example,
    Judged,
    Kind,
    Message,
    Preference,
    Task,
    Text,
)
from blixt.llm.data.records import Record
from blixt.llm.errors import CorpusError

KINDS: tuple[Kind, ...] = get_args(Kind)
FIELDS: dict[Kind, str] = {
    "text": "text",
    "chat": "messages (or conversations)",
    "instruction": "instruction, output and perhaps input",
    "completion": "prompt and completion",
    "preference": "chosen, rejected and perhaps prompt",
    "judged": "prompt, completion and label",
    "task": "prompt (and what rewards need)",
}
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "function_call": "assistant", "observation": "tool"}


def detect(record: Record) -> Kind:
    """The kind of a row, by the fields it has.

    Raises:
        CorpusError: It has the fields of none.
    """
    value = record.value
    if isinstance(value, str):
        return "text"
    has = {name for name, field in value.items() if field is not None}
    if {"chosen", "rejected"} <= has:
        return "preference"
    if {"prompt", "completion", "label"} <= has:
        return "judged"
    if {"prompt", "completion"} <= has:
        return "completion"
    if {"instruction", "output"} <= has:
        return "instruction"
    if {"messages"} <= has or {"conversations"} <= has:
        return "chat"
    if "text" in has:
        return "text"
    if "prompt" in has:
        return "task"
    known = "; ".join(f"{kind}: {fields}" for kind, fields in FIELDS.items())
    raise CorpusError(
        f"{record.origin} has the fields {', '.join(sorted(has)) or '(none)'}, which are those of no kind of "
        f"example ({known}): rename them"
    )


def to_example(record: Record, kind: Kind) -> Example:
    """A row as an example of `kind`.

    Raises:
        CorpusError: A field is missing, of the wrong type or empty; the message names row and field.
    """
    if isinstance(record.value, str):
        if kind != "text":
            raise CorpusError(f"{record.origin} is plain text, not {kind}: {kind} needs {FIELDS[kind]}")
        return Text(record.value, record.origin)
    return _READERS[kind](record)


def _text(record: Record) -> Text:
    return Text(_string(record, "text"), record.origin)


def _chat(record: Record) -> Chat:
    name = "messages" if record.value.get("messages") is not None else "conversations"
    messages = _messages(record, name)
    if not any(message["role"] == "assistant" for message in messages):
        raise CorpusError(f"{record.origin}: {name} has no message of the assistant, so nothing to learn")
    return Chat(messages, _tools(record), origin=record.origin)


def _instruction(record: Record) -> Chat:
    instruction, output = _string(record, "instruction"), _string(record, "output")
    more = record.value.get("input")
    if more is not None and not isinstance(more, str):
        raise CorpusError(f"{record.origin}: field 'input' is a {type(more).__name__}, not a text")
    asked = f"{instruction}\n\n{more}" if more else instruction
    messages: list[Message] = [{"role": "user", "content": asked}, {"role": "assistant", "content": output}]
    if isinstance(record.value.get("system"), str):
        messages.insert(0, {"role": "system", "content": record.value["system"]})
    return Chat(tuple(messages), origin=record.origin)


def _completion(record: Record) -> Answered:
    return _answered(record, "prompt", "completion")


def _preference(record: Record) -> Preference:
    if record.value.get("prompt") is not None:
        answers = [_answered(record, "prompt", name) for name in ("chosen", "rejected")]
    else:
        answers = _implicit(record)
    return Preference(answers[0], answers[1], record.origin)


def _judged(record: Record) -> Judged:
    label = record.value.get("label")
    if not isinstance(label, (bool, int)) or label not in (0, 1):
        raise CorpusError(f"{record.origin}: field 'label' is {label!r}, not true or false")
    return Judged(_answered(record, "prompt", "completion"), bool(label), record.origin)


def _task(record: Record) -> Task:
    rest = {name: value for name, value in record.value.items() if name not in ("prompt", "tools")}
    if _is_messages(record.value.get("prompt")):
        return Task(_messages(record, "prompt"), "", _tools(record), rest, record.origin)
    return Task((), _string(record, "prompt"), (), rest, record.origin)


_READERS: dict[Kind, Any] = {
    "text": _text,
    "chat": _chat,
    "instruction": _instruction,
    "completion": _completion,
    "preference": _preference,
    "judged": _judged,
    "task": _task,
}


def _answered(record: Record, prompt: str, answer: str) -> Answered:
    """A prompt and an answer, both plain or both messages (the answer's may be one plain text)."""
    if not _is_messages(record.value.get(prompt)):
        return Completion(_string(record, prompt, empty=True), _string(record, answer), record.origin)
    asked = _messages(record, prompt)
    given = record.value.get(answer)
    said = ({"role": "assistant", "content": given},) if isinstance(given, str) else _messages(record, answer)
    if said[: len(asked)] == asked and len(said) > len(asked):
        said = said[len(asked) :]  # the whole conversation was repeated
    return Chat((*asked, *said), _tools(record), len(asked), record.origin)


def _implicit(record: Record) -> list[Answered]:
    """Answers that hold their prompt: what both begin with is the prompt."""
    if not all(_is_messages(record.value.get(name)) for name in ("chosen", "rejected")):
        raise CorpusError(
            f"{record.origin}: field 'prompt' is missing, which plain 'chosen' and 'rejected' need"
        )
    chosen, rejected = _messages(record, "chosen"), _messages(record, "rejected")
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if not shared:
        raise CorpusError(f"{record.origin}: 'chosen' and 'rejected' have no first message in common")
    return [Chat(said, _tools(record), shared, record.origin) for said in (chosen, rejected)]


def _string(record: Record, name: str, *, empty: bool = False) -> str:
    value = record.value.get(name)
    if value is None:
        raise CorpusError(f"{record.origin}: field {name!r} is missing")
    if not isinstance(value, str):
        raise CorpusError(f"{record.origin}: field {name!r} is a {type(value).__name__}, not a text")
    if not value and not empty:
        raise CorpusError(f"{record.origin}: field {name!r} is empty")
    return value


def _is_messages(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str))


def _messages(record: Record, name: str) -> tuple[Message, ...]:
    """Messages in OpenAI's form; ShareGPT's from/value and Arrow's columns of lists are turned into it."""
    value: Any = record.value.get(name)
    if value is None:
        raise CorpusError(f"{record.origin}: field {name!r} is missing")
    if isinstance(value, str):
        raise CorpusError(f"{record.origin}: field {name!r} is a text, not a list of messages")
    if isinstance(value, Mapping):
        columns = cast("Mapping[str, Sequence[Any]]", value)
        keys = list(columns)
        value = [dict(zip(keys, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    items = enumerate(cast("list[Any]", value))
    found = tuple(_message(item, f"{record.origin}: {name}[{i}]") for i, item in items)
    if not found:
        raise CorpusError(f"{record.origin}: field {name!r} is empty")
    return found


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, Mapping):
        raise CorpusError(f"{where} is a {type(value).__name__}, not a message with role and content")
    message = {key: field for key, field in cast("Mapping[str, Any]", value).items() if field is not None}
    if "role" not in message and "from" in message:
        role = message.pop("from")
        message = {"role": SHAREGPT_ROLES.get(role, role), "content": message.pop("value", None), **message}
    if not isinstance(message.get("role"), str):
        raise CorpusError(f"{where} has no 'role'")
    content = message.get("content")
    if content is None and not message.get("tool_calls"):
        raise CorpusError(f"{where} has no 'content'")
    if content is not None and not isinstance(content, (str, list)):
        raise CorpusError(f"{where}: 'content' is a {type(content).__name__}, not a text")
    return {"role": message["role"], "content": content if content is not None else "", **message}


def _tools(record: Record) -> tuple[dict[str, Any], ...]:
    """The functions a row offers; some datasets keep them as one JSON text."""
    tools: Any = record.value.get("tools")
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except json.JSONDecodeError as error:
            raise CorpusError(f"{record.origin}: field 'tools' is not JSON: {error}") from None
    if not tools:
        return ()
    if not isinstance(tools, list) or not all(isinstance(t, Mapping) for t in cast("list[Any]", tools)):
        raise CorpusError(f"{record.origin}: field 'tools' is not a list of functions")
    return tuple(dict(tool) for tool in cast("list[Mapping[str, Any]]", tools))
