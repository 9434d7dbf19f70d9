"""Bodies of OpenAI's completion routes as checked requests. Pure."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from blixt.serve.codec import decoder_for
from blixt.serve.errors import HTTPError
from blixt.serve.specs.openai_types import (
    MAX_LOGPROBS,
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    Message,
    Sampling,
)

T = TypeVar("T")
Chat = TypeVar("Chat", bound=ChatRequest)
Completion = TypeVar("Completion", bound=CompletionRequest)
FORMATS = ("text", "json_object", "json_schema", "regex", "choice", "ebnf")
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
PART_FIELDS = {
    "text": ("text", str, ()),
    "refusal": ("refusal", str, ()),
    "image_url": ("image_url", dict, ("url",)),
    "input_audio": ("input_audio", dict, ("data", "format")),
    "file": ("file", dict, ()),
}


def reader(kind: type[T], path: str) -> Callable[[bytes], T]:
    """Reads bodies of a route as a type; any complaint is the 400 that OpenAI's clients expect."""
    read = decoder_for(kind, path)

    def decoded(body: bytes) -> T:
        try:
            return read(body, None)
        except HTTPError as error:
            raise HTTPError(400, error.detail) from None

    return decoded


_chat = reader(ChatRequest, "/v1/chat/completions")
_completion = reader(CompletionRequest, "/v1/completions")
_embedding = reader(EmbeddingRequest, "/v1/embeddings")


def read_chat(body: bytes) -> ChatRequest:
    """A body of `/v1/chat/completions`, checked and normalised.

    Raises:
        HTTPError: 400 if it is not what OpenAI's API takes.
    """
    return check_chat(_chat(body))


def check_chat(request: Chat) -> Chat:
    """The checks a decoder cannot make.

    Raises:
        HTTPError: 400, see `read_chat`.
    """
    if request.max_completion_tokens is not None:
        request.max_tokens = request.max_completion_tokens
    _check_sampling(request)
    require(bool(request.messages), "messages", "is empty")
    for index, message in enumerate(request.messages):
        _check_message(message, f"messages.{index}")
    for index, tool in enumerate(request.tools or ()):
        _check_tool(tool, f"tools.{index}")
    if request.top_logprobs is not None:
        require(bool(request.logprobs), "top_logprobs", "needs logprobs=true")
        _in_range(request.top_logprobs, 0, MAX_LOGPROBS, "top_logprobs")
    check_format(request.response_format)
    return request


def read_completion(body: bytes) -> CompletionRequest:
    """A body of `/v1/completions`, checked and normalised.

    Raises:
        HTTPError: 400 if it is not what OpenAI's API takes.
    """
    request = check_completion(_completion(body))
    echoable = all(isinstance(prompt, str) for prompt in prompts_of(request))
    require(echoable or not request.echo, "echo", "needs prompts that are text")
    return request


def check_completion(request: Completion) -> Completion:
    """The checks a decoder cannot make, except that an echo needs text.

    Raises:
        HTTPError: 400, see `read_completion`.
    """
    _check_sampling(request)
    require(request.best_of in (None, 1, request.n), "best_of", "must be 1 or equal to n")
    if request.logprobs is not None:
        _in_range(request.logprobs, 0, MAX_LOGPROBS, "logprobs")
    prompts_of(request)
    return request


def prompts_of(request: CompletionRequest) -> list[str | list[int]]:
    """The request's prompts, each a text or a list of token ids."""
    return _many(request.prompt, "prompt")


def read_embedding(body: bytes) -> EmbeddingRequest:
    """A body of `/v1/embeddings`, checked.

    Raises:
        HTTPError: 400 if it is not what OpenAI's API takes.
    """
    request = _embedding(body)
    require(request.dimensions is None or request.dimensions > 0, "dimensions", "must be above 0")
    require(all(inputs_of(request)), "input", "has an empty entry")
    return request


def inputs_of(request: EmbeddingRequest) -> list[str | list[int]]:
    """The request's inputs, each a text or a list of token ids."""
    return _many(request.input, "input")


def require(condition: bool, param: str, what: str) -> None:
    """Raise a 400 that names the parameter unless the condition holds."""
    if not condition:
        raise HTTPError(400, {"message": f"'{param}' {what}.", "param": param, "code": "invalid_value"})


def _many(value: str | list[int | str | list[int]], param: str) -> list[str | list[int]]:
    """A text, a list of texts, a list of token ids, or a list of such lists, as a list of single ones."""
    if isinstance(value, str):
        return [value]
    require(bool(value), param, "is empty")
    if all(isinstance(item, int) for item in value):
        return [cast(list[int], value)]
    mixed = any(isinstance(item, int) for item in value)
    require(not mixed, param, "mixes token ids with texts or lists")
    return cast(list[str | list[int]], value)


def _check_sampling(request: Sampling) -> None:
    require(request.n is None or request.n > 0, "n", "must be above 0")
    require(request.max_tokens is None or request.max_tokens > 0, "max_tokens", "must be above 0")
    _in_range(request.temperature, 0, 2, "temperature")
    require(request.top_p is None or 0 < request.top_p <= 1, "top_p", "must be above 0 and at most 1")
    _in_range(request.presence_penalty, -2, 2, "presence_penalty")
    _in_range(request.frequency_penalty, -2, 2, "frequency_penalty")


def _in_range(value: float | None, low: float, high: float, param: str) -> None:
    require(value is None or low <= value <= high, param, f"must be from {low:g} to {high:g}")


def _check_message(message: Message, where: str) -> None:
    known = ", ".join(sorted(ROLES))
    require(message.role in ROLES, f"{where}.role", f"is {message.role!r}; known are {known}")
    if message.role == "tool":
        require(message.tool_call_id is not None, f"{where}.tool_call_id", "is missing")
    if isinstance(message.content, list):
        for index, part in enumerate(message.content):
            _check_part(part, f"{where}.content.{index}")
    for index, call in enumerate(message.tool_calls or ()):
        function = call.get("function", call.get("custom"))
        require(isinstance(function, dict), f"{where}.tool_calls.{index}.function", "is missing")


def _check_part(part: dict[str, Any], where: str) -> None:
    known = PART_FIELDS.get(str(part.get("type")))
    require(known is not None, f"{where}.type", f"must be one of {', '.join(PART_FIELDS)}")
    assert known is not None
    name, kind, inside = known
    require(isinstance(part.get(name), kind), f"{where}.{name}", f"is missing or no {kind.__name__}")
    for key in inside:
        require(isinstance(part[name].get(key), str), f"{where}.{name}.{key}", "is missing or no text")


def _check_tool(tool: dict[str, Any], where: str) -> None:
    if tool.get("type") != "function":
        return
    function = tool.get("function")
    named = isinstance(function, dict) and isinstance(cast(dict[str, Any], function).get("name"), str)
    require(named, f"{where}.function.name", "is missing")


def check_format(wanted: dict[str, Any] | None) -> None:
    """What OpenAI's `response_format` may be, and three kinds more, whose value stands under their name.

    Raises:
        HTTPError: 400 if it is something else.
    """
    if wanted is None:
        return
    kind = wanted.get("type")
    require(kind in FORMATS, "response_format.type", f"must be one of {', '.join(FORMATS)}")
    if kind == "json_schema":
        schema = wanted.get("json_schema")
        named = isinstance(schema, dict) and isinstance(cast(dict[str, Any], schema).get("name"), str)
        require(named, "response_format.json_schema.name", "is missing")
    elif kind in ("regex", "ebnf"):
        require(isinstance(wanted.get(kind), str), f"response_format.{kind}", "is missing or no text")
    elif kind == "choice":
        choices = wanted.get("choice")
        texts = cast(list[Any], choices) if isinstance(choices, list) else []
        listed = bool(texts) and all(isinstance(text, str) for text in texts)
        require(listed, "response_format.choice", "is missing or no list of texts")
