"""Bodies of OpenAI's routes with what this server takes beyond them; a name nobody knows is refused.

The front reads and checks; what it passes on to a worker is one of the three tagged structs here. Pure.
"""

import difflib
from collections.abc import Collection, Mapping
from typing import Any, TypeVar, cast

import msgspec

from blixt.serve.errors import HTTPError
from blixt.serve.specs.openai_requests import (
    check_chat,
    check_completion,
    check_format,
    inputs_of,
    read_embedding,
    reader,
    require,
)
from blixt.serve.specs.openai_responses import ResponseRequest, read_response
from blixt.serve.specs.openai_types import ChatRequest, CompletionRequest, EmbeddingRequest

Body = TypeVar("Body", "ChatBody", "CompletionBody")


class Extras(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a request may say beyond OpenAI's names.

    Attributes:
        top_k, min_p, repetition_penalty, min_tokens, ignore_eos, stop_token_ids: As in `Sampling`.
        chat_template_kwargs: Variables of the chat template, such as `enable_thinking`.
        documents: For chat templates that take them.
        add_generation_prompt: Whether the prompt ends with the beginning of an answer; None: yes.
        continue_final_message: Whether the answer goes on with the last message.
        response_format: Of a completion, as of a chat.
        cache_salt: Only requests of the same salt share computed prompts.
        priority: Smaller goes first.
        only_prompt: The answer is the prompt itself; set by the server for `max_tokens=0` with `echo`.
    """

    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[int] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    documents: list[dict[str, Any]] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    response_format: dict[str, Any] | None = None
    cache_salt: str | None = None
    priority: int | None = None
    only_prompt: bool = False


class ChatBody(ChatRequest, kw_only=True, tag="chat"):
    """A chat, or a response said as a chat."""

    extras: Extras = msgspec.field(default_factory=Extras)


class CompletionBody(CompletionRequest, kw_only=True, tag="completion"):
    """A completion."""

    extras: Extras = msgspec.field(default_factory=Extras)


class EmbeddingBody(EmbeddingRequest, kw_only=True, tag_field="blixt_request", tag="embedding"):
    """One input to be embedded."""


LLMRequest = ChatBody | CompletionBody | EmbeddingBody
_chat = reader(ChatBody, "/v1/chat/completions")
_completion = reader(CompletionBody, "/v1/completions")
_extras = reader(Extras, "extras")
_names = msgspec.json.Decoder(dict[str, msgspec.Raw])

WITHOUT_EFFECT = frozenset(
    {"store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prediction"}
)
OWN = frozenset({"messages", "tools", "documents", "add_generation_prompt", "continue_final_message"})
NOT_HERE: Mapping[str, str] = {
    "functions": "is no longer taken; say it as 'tools'",
    "function_call": "is no longer taken; say it as 'tool_choice'",
    "audio": "is not taken: this model writes text",
    "web_search_options": "is not taken: this server searches nothing",
    "suffix": "is not taken: this server only continues prompts",
    "prompt": "is not taken: this server stores no prompts",
}


def _known(kind: type[msgspec.Struct], *more: type[msgspec.Struct]) -> frozenset[str]:
    own = {name for struct in (kind, *more) for name in struct.__struct_fields__}
    return frozenset(own - {"choice", "extras", "only_prompt"})


CHAT_NAMES = _known(ChatRequest, Extras)
COMPLETION_NAMES = _known(CompletionRequest, Extras) - {"suffix"}
RESPONSE_NAMES = _known(ResponseRequest) | {"extras"}
EMBEDDING_NAMES = _known(EmbeddingRequest)


def read_chat(body: bytes) -> ChatBody:
    """A body of `/v1/chat/completions`.

    Raises:
        HTTPError: 400 for what cannot be answered.
    """
    request = _with_extras(check_chat(_chat(body)), body, CHAT_NAMES)
    check_tools(request)
    for name in request.extras.chat_template_kwargs or ():
        require(name not in OWN, "chat_template_kwargs", f"has {name!r}, which is a parameter of its own")
    return request


def read_completion(body: bytes) -> CompletionBody:
    """A body of `/v1/completions`; `max_tokens=0` with `echo` asks for the prompt's own log-probabilities.

    Raises:
        HTTPError: 400 for what cannot be answered.
    """
    request = _with_extras(_completion(body), body, COMPLETION_NAMES)
    if request.max_tokens == 0 and request.echo:
        request.max_tokens, request.extras.only_prompt = 1, True
    check_format(request.extras.response_format)
    return check_completion(request)


def read_responses(body: bytes) -> tuple[ResponseRequest, ChatBody]:
    """A body of `/v1/responses`, as it is and as a chat.

    Raises:
        HTTPError: 400 for what cannot be answered.
    """
    check_names(body, RESPONSE_NAMES, {"prompt": NOT_HERE["prompt"]})
    response, chat = read_response(body)
    fields = {name: getattr(chat, name) for name in ChatRequest.__struct_fields__}
    request = ChatBody(**fields)
    check_tools(request)
    return response, request


def read_embeddings(body: bytes) -> EmbeddingBody:
    """A body of `/v1/embeddings`.

    Raises:
        HTTPError: 400 for what cannot be answered.
    """
    check_names(body, EMBEDDING_NAMES, {})
    request = read_embedding(body)
    inputs_of(request)
    return EmbeddingBody(**{name: getattr(request, name) for name in EmbeddingRequest.__struct_fields__})


def _with_extras(request: Body, body: bytes, names: Collection[str]) -> Body:
    refused = NOT_HERE if "prompt" not in names else {k: v for k, v in NOT_HERE.items() if k != "prompt"}
    check_names(body, names, refused)
    request.extras = _extras(body)
    request.extras.only_prompt = False
    for token, bias in (request.logit_bias or {}).items():
        require(token.lstrip("-").isdecimal(), "logit_bias", f"has {token!r}, which is no token id")
        require(-100 <= bias <= 100, "logit_bias", "must hold numbers from -100 to 100")
    return request


def check_names(body: bytes, known: Collection[str], refused: Mapping[str, str]) -> None:
    """Refuse parameters that this server does not know, or knows that it cannot heed.

    Raises:
        HTTPError: 400 naming the parameter, and the nearest that is known.
    """
    try:
        given = _names.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return  # whoever reads the body will say what is wrong with it
    for name, value in given.items():
        if name in known or name in WITHOUT_EFFECT:
            continue
        if name in refused:
            require(bytes(value) in (b"null", b"false"), name, refused[name])
            continue
        close = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        detail = {"message": f"There is no parameter {name!r}{hint}", "param": name}
        raise HTTPError(400, {**detail, "code": "unknown_parameter"})


def check_tools(request: ChatBody) -> None:
    """What OpenAI allows of tools and their choice.

    Raises:
        HTTPError: 400 otherwise.
    """
    tools = request.tools or []
    for index, tool in enumerate(tools):
        kind = tool.get("type")
        require(kind == "function", f"tools.{index}.type", f"is {kind!r}; this server takes functions")
    require(request.modalities in (None, ["text"]), "modalities", "must be ['text']")
    choice = request.tool_choice
    if choice is None:
        return
    names = [tool["function"]["name"] for tool in tools]
    if isinstance(choice, str):
        known = ("none", "auto", "required")
        require(choice in known, "tool_choice", f"must be one of {', '.join(known)}, or name a function")
        require(bool(tools) or choice != "required", "tool_choice", "is 'required', but there are no tools")
        return
    function = choice.get("function")
    name = cast("dict[str, Any]", function).get("name") if isinstance(function, dict) else None
    require(name in names, "tool_choice", f"names {name!r}, which is not among the tools")


def names_of(request: ChatBody) -> list[str]:
    """The functions that the model may call: none if it was told so."""
    if request.tool_choice == "none":
        return []
    return [tool["function"]["name"] for tool in request.tools or ()]


def forced_names(request: ChatBody) -> list[str]:
    """The functions of which the model must call one; empty if it need not."""
    choice = request.tool_choice
    if isinstance(choice, dict):
        return [choice["function"]["name"]]
    return names_of(request) if choice == "required" else []
