"""A request as the token ids a model goes on from, and what its answer is to be taken for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import msgspec

from blixt.llm.chat.answers import AnswerKind, AnswerParser
from blixt.llm.chat.calls import SYNTAXES, CallSyntax, read_object
from blixt.llm.chat.messages import plain_messages
from blixt.llm.chat.template import ChatTemplate
from blixt.llm.server.prompt_calls import FINAL, answer_or_call, call_format, retold, told
from blixt.llm.server.requests import ChatBody, CompletionBody, forced_names, names_of
from blixt.llm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from blixt.llm.engine.grammar import Format

QUIET = ("none", "minimal")
FORCED = CallSyntax("forced", "", "", read_object, bare=lambda text, names: True)
TAGGED = SYNTAXES[0]


@dataclass(frozen=True)
class Prepared:
    """A request ready for the engine.

    Attributes:
        ids: The prompt.
        parser: Takes the answer apart.
        keep: Ids of special tokens that the parser needs to see.
        format: What the answer must look like.
    """

    ids: list[int]
    parser: AnswerParser
    keep: frozenset[int] = frozenset()
    format: "Format | None" = None


class Prompter:
    """Renders requests for one model.

    Args:
        tokenizer: The model's.
        template: The chat template; None joins messages by lines, as a base model has it.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None) -> None:
        self.tokenizer = tokenizer
        self.template = template
        source = "" if template is None else template.literals
        self._source = source
        self.kind = AnswerKind.of(source)
        self._takes_tools = "tools" in source
        self._takes_developer = "developer" in source

    def completion(self, request: CompletionBody) -> Prepared:
        """A prompt as it is: text is encoded, ids are taken.

        Raises:
            PromptError: An id is outside the vocabulary, or the format is none.
        """
        prompt = request.prompt
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else cast("list[int]", prompt)
        return Prepared(ids, AnswerParser(AnswerKind()), format=format_of(request.extras.response_format))

    def chat(self, request: ChatBody) -> Prepared:
        """A conversation by the chat template.

        Raises:
            PromptError: A message cannot be said to this model, or the format is none.
            TemplateError: The template refuses the conversation.
        """
        messages, names, forced = self._messages(request), names_of(request), forced_names(request)
        wanted, kind = format_of(request.response_format), self.kind
        tools = [tool for tool in request.tools or () if tool["function"]["name"] in names]
        if tools and not (self._takes_tools and (kind.harmony or kind.calls)):
            messages, kind = told(messages, tools), replace(kind, calls=TAGGED)
        text = self._render(request, messages, tools if self._takes_tools else None)
        if forced:
            text = _answering(text, kind) + (kind.calls.prefix if kind.calls else "")
            wanted, kind = call_format([t for t in tools if t["function"]["name"] in forced]), FORCED_KIND
        elif wanted is not None and tools:
            text = text if kind.harmony else _answering(text, kind)
            wanted = answer_or_call(wanted, tools, kind, self._source)
        elif wanted is not None:
            text, kind = _answering(text, kind), AnswerKind()
        parser = AnswerParser(kind, names, text)
        ids = self.tokenizer.encode(text, bos=False if self.template is not None else None)
        return Prepared(ids, parser, self._kept(kind), wanted)

    def _messages(self, request: ChatBody) -> list[dict[str, Any]]:
        messages = plain_messages([_as_dict(message) for message in request.messages])
        if not self._takes_developer:
            for message in messages:
                if message["role"] == "developer":
                    message["role"] = "system"
        return messages if self._takes_tools else [retold(message) for message in messages]

    def _render(self, request: ChatBody, messages: list[dict[str, Any]], tools: Sequence[Any] | None) -> str:
        if self.template is None:
            from blixt.llm.api import render_chat  # the front reads this file, and can do without torch

            return render_chat([{**message, "content": message.get("content") or ""} for message in messages])
        extras = request.extras
        variables = dict(extras.chat_template_kwargs or {})
        if request.reasoning_effort is not None:
            variables.setdefault("reasoning_effort", request.reasoning_effort)
            if request.reasoning_effort in QUIET:
                variables.setdefault("enable_thinking", False)
        return self.template.render(
            messages,
            tools=tools or None,
            documents=extras.documents,
            add_generation_prompt=extras.add_generation_prompt is not False,
            continue_final_message=bool(extras.continue_final_message),
            **variables,
        )

    def _kept(self, kind: AnswerKind) -> frozenset[int]:
        ids = (self.tokenizer.inner.token_to_id(marker) for marker in kind.markers)
        return frozenset(token for token in ids if token is not None)


FORCED_KIND = AnswerKind(calls=FORCED)


def _as_dict(message: Any) -> dict[str, Any]:
    """A message as templates want it: without what was not said, with a content even beside tool calls."""
    fields = cast("dict[str, Any]", msgspec.to_builtins(message))
    if fields.get("content") is None and fields.get("refusal"):
        fields["content"] = fields["refusal"]
    if fields.get("content") is None:
        fields["content"] = ""
    return fields


def _answering(text: str, kind: AnswerKind) -> str:
    """The prompt, up to where the answer proper begins: not within reasoning."""
    if kind.harmony:
        return text + FINAL
    if kind.thinking is not None and text.rstrip().endswith(kind.thinking[0]):
        return f"{text.rstrip()}\n\n{kind.thinking[1]}\n\n"
    return text


def format_of(wanted: dict[str, Any] | None) -> "Format | None":
    """A `response_format` as the engine takes it.

    Raises:
        FormatError: Its schema is none.
    """
    if wanted is None or wanted["type"] == "text":
        return None
    from blixt.llm.engine.grammar import Format

    kind = wanted["type"]
    if kind == "json_schema":
        schema = wanted["json_schema"].get("schema")
        return Format.json_object() if schema is None else Format.json_schema(schema)
    if kind == "json_object":
        return Format.json_object()
    if kind == "choice":
        return Format.choice(wanted["choice"])
    return Format.regex(wanted["regex"]) if kind == "regex" else Format.ebnf(wanted["ebnf"])
