"""Bodies of `/v1/responses` as chat requests: the model behind need not know the difference. Pure."""

from collections.abc import Iterator
from typing import Any, cast

import msgspec

from blixt.serve.specs.openai_requests import check_chat, reader, require
from blixt.serve.specs.openai_types import ChatRequest, Message


class ResponseText(msgspec.Struct):
    """What the answer's text shall look like."""

    format: dict[str, Any] | None = None
    verbosity: str | None = None


class ResponseReasoning(msgspec.Struct):
    """How much the model shall think."""

    effort: str | None = None
    summary: str | None = None


class ResponseRequest(msgspec.Struct, kw_only=True):
    """A body of `/v1/responses`. The server keeps nothing: a conversation is sent whole each time."""

    model: str
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: ResponseText | None = None
    reasoning: ResponseReasoning | None = None
    include: list[str] | None = None
    metadata: dict[str, str] | None = None
    stream: bool | None = False
    store: bool | None = None
    truncation: str | None = None
    user: str | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: Any = None


_read = reader(ResponseRequest, "/v1/responses")
PART_KINDS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}


def read_response(body: bytes) -> tuple[ResponseRequest, ChatRequest]:
    """The body as the client sent it, and as `predict` gets it.

    Raises:
        HTTPError: 400 if it is not what OpenAI's API takes, or needs a server that remembers.
    """
    request = _read(body)
    for name, kept in (
        ("previous_response_id", request.previous_response_id),
        ("conversation", request.conversation),
        ("background", request.background),
    ):
        require(not kept, name, "needs a server that stores answers; send the whole conversation as 'input'")
    text, reasoning = request.text or ResponseText(), request.reasoning or ResponseReasoning()
    with_logprobs = "message.output_text.logprobs" in (request.include or ())
    chat = ChatRequest(
        model=request.model,
        messages=_messages(request),
        stream=request.stream,
        max_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        tools=[_tool(tool, index) for index, tool in enumerate(request.tools or ())] or None,
        tool_choice=_tool_choice(request.tool_choice),
        parallel_tool_calls=request.parallel_tool_calls,
        response_format=_format(text.format),
        verbosity=text.verbosity,
        reasoning_effort=reasoning.effort,
        logprobs=True if with_logprobs or request.top_logprobs else None,
        top_logprobs=request.top_logprobs,
        metadata=request.metadata,
        user=request.user,
    )
    return request, check_chat(chat)


def _messages(request: ResponseRequest) -> list[Message]:
    messages = [Message("system", request.instructions)] if request.instructions else []
    if isinstance(request.input, str):
        return [*messages, Message("user", request.input)]
    require(bool(request.input), "input", "is empty")
    for index, item in enumerate(request.input):
        for message in _item(item, f"input.{index}"):
            _append(messages, message)
    return messages


def _append(messages: list[Message], message: Message) -> None:
    """Add a message; tool calls and reasoning that follow each other are one assistant's message."""
    last = messages[-1] if messages else None
    open_turn = last is not None and last.role == "assistant" and last.content is None
    if last is not None and open_turn and message.role == "assistant":
        last.tool_calls = [*(last.tool_calls or ()), *(message.tool_calls or ())] or None
        last.reasoning_content = last.reasoning_content or message.reasoning_content
        last.content = message.content
        return
    messages.append(message)


def _item(item: dict[str, Any], where: str) -> Iterator[Message]:
    kind = item.get("type", "message")
    if kind == "message":
        require(isinstance(item.get("role"), str), f"{where}.role", "is missing")
        yield Message(item["role"], _content(item.get("content"), f"{where}.content"))
    elif kind == "function_call":
        for name in ("call_id", "name", "arguments"):
            require(isinstance(item.get(name), str), f"{where}.{name}", "is missing or no text")
        function = {"name": item["name"], "arguments": item["arguments"]}
        call = {"id": item["call_id"], "type": "function", "function": function}
        yield Message("assistant", tool_calls=[call])
    elif kind == "function_call_output":
        require(isinstance(item.get("call_id"), str), f"{where}.call_id", "is missing or no text")
        output = _content(item.get("output"), f"{where}.output")
        yield Message("tool", output, tool_call_id=item["call_id"])
    elif kind == "reasoning":
        texts = [*_dicts(item.get("content")), *_dicts(item.get("summary"))]
        thought = "".join(str(text.get("text", "")) for text in texts)
        if thought:
            yield Message("assistant", reasoning_content=thought)
    else:
        require(
            False,
            f"{where}.type",
            f"is {kind!r}; this server takes message, function_call, function_call_output and reasoning",
        )


def _content(content: Any, where: str) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    require(isinstance(content, list), where, "must be text or a list of parts")
    parts: list[Any] = content
    for index, part in enumerate(parts):
        require(isinstance(part, dict), f"{where}.{index}", "must be an object")
    converted = [_part(part, f"{where}.{index}") for index, part in enumerate(parts)]
    if all(part["type"] == "text" for part in converted):
        return "".join(part["text"] for part in converted)
    return converted


def _part(part: dict[str, Any], where: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind in PART_KINDS:
        name = PART_KINDS[kind]
        text = part.get(name)
        require(isinstance(text, str), f"{where}.{name}", "is missing or no text")
        return {"type": name, name: text}
    if kind == "input_image":
        require(isinstance(part.get("image_url"), str), f"{where}.image_url", "is missing or no text")
        image = {"url": part["image_url"], "detail": part.get("detail") or "auto"}
        return {"type": "image_url", "image_url": image}
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": part.get("input_audio")}
    if kind == "input_file":
        return {"type": "file", "file": {key: part[key] for key in part if key != "type"}}
    known = ", ".join([*PART_KINDS, "input_image", "input_audio", "input_file"])
    require(False, f"{where}.type", f"must be one of {known}")
    return {}


def _tool(tool: dict[str, Any], index: int) -> dict[str, Any]:
    kind = tool.get("type")
    require(kind == "function", f"tools.{index}.type", f"is {kind!r}; this server runs no tools of its own")
    require(isinstance(tool.get("name"), str), f"tools.{index}.name", "is missing or no text")
    return {"type": "function", "function": {key: tool[key] for key in tool if key != "type"}}


def _tool_choice(choice: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return choice


def _format(wanted: dict[str, Any] | None) -> dict[str, Any] | None:
    if wanted is None or wanted.get("type") != "json_schema":
        return wanted
    return {"type": "json_schema", "json_schema": {key: wanted[key] for key in wanted if key != "type"}}


def _dicts(value: Any) -> list[dict[str, Any]]:
    items: list[Any] = cast(list[Any], value) if isinstance(value, list) else []
    return [item for item in items if isinstance(item, dict)]
