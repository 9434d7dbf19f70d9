"""Which tokens of a conversation the assistant said, for training on those alone.

A template with `{% generation %}` blocks says it itself. For others the conversation is rendered up to each
assistant's message, with and without the beginning of an answer: what the whole has beyond that is the
answer. Every such cut is checked against the whole; a template that writes a message differently when more
follows is either still told apart by its content, or refused.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from blixt.llm.chat.messages import Message
from blixt.llm.errors import TemplateError

if TYPE_CHECKING:
    from blixt.llm.chat.template import ChatTemplate, Tools

Span = tuple[int, int]


def chat_mask(
    template: "ChatTemplate", messages: Sequence[Message], tools: "Tools | None" = None, **variables: Any
) -> tuple[list[int], list[bool]]:
    """A conversation's token ids, and for each whether the assistant said it, the end of its turn included.

    Args:
        template: With a tokenizer.
        messages: The conversation, complete.
        tools: As for `ChatTemplate.render`.
        **variables: As for `ChatTemplate.render`.

    Raises:
        TemplateError: It cannot be told which text the assistant said.
    """
    text, spans = answer_spans(template, messages, tools, **variables)
    tokenizer = template.needed_tokenizer
    ids, places = tokenizer.encode_spans(text)
    ends = frozenset(tokenizer.eos)
    mask = [False] * len(ids)
    for start, stop in spans:
        inside = [at for at, place in enumerate(places) if start <= place[0] < stop and place[0] < place[1]]
        last_end = max((at for at in inside if ids[at] in ends), default=None)
        for at in inside:
            mask[at] = last_end is None or at <= last_end
    return ids, mask


def answer_spans(
    template: "ChatTemplate", messages: Sequence[Message], tools: "Tools | None" = None, **variables: Any
) -> tuple[str, list[Span]]:
    """A conversation as text, and where in it the assistant's answers begin and end.

    Raises:
        TemplateError: It cannot be told.
    """
    options: dict[str, Any] = {"tools": tools, "add_generation_prompt": False, **variables}
    if any("generation" in source and "endgeneration" in source for source in template.sources.values()):
        return _marked(template, messages, options)
    return _by_prefixes(template, messages, options)


def _marked(
    template: "ChatTemplate", messages: Sequence[Message], options: dict[str, Any]
) -> tuple[str, list[Span]]:
    from blixt.llm.chat.sandbox import marking

    marks: list[tuple[str, str]] = []
    with marking(marks):
        text = template.render(messages, **options)
    spans: list[Span] = []
    for opening, closing in marks:
        start = text.find(opening)
        text = text.replace(opening, "", 1)
        stop = text.find(closing)
        text = text.replace(closing, "", 1)
        if 0 <= start <= stop:
            spans.append((start, stop))
    return text, sorted(spans)


def _by_prefixes(
    template: "ChatTemplate", messages: Sequence[Message], options: dict[str, Any]
) -> tuple[str, list[Span]]:
    whole = template.render(messages, **options)
    spans: list[Span] = []
    at = 0
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        begin = _begin(template, messages[:index], options, whole, index)
        end = _end(template, messages[: index + 1], options, whole, begin, index)
        if begin < at or end <= begin:
            raise _unclear(index)
        spans.append((begin, end))
        at = end
    _check_apart(spans)
    return whole, spans


def _begin(
    template: "ChatTemplate", before: Sequence[Message], options: dict[str, Any], whole: str, index: int
) -> int:
    """Where an answer begins: after the prompt for one, as far as the whole has it, too."""
    if not before:
        return 0
    plain = template.render(before, **options)
    prompt = template.render(before, **_asking(options))
    shared = _shared(prompt, whole)
    if shared < _shared(plain, prompt):
        raise _unclear(index)
    return shared


def _asking(options: dict[str, Any]) -> dict[str, Any]:
    return options | {"add_generation_prompt": True}


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _end(
    template: "ChatTemplate",
    until: Sequence[Message],
    options: dict[str, Any],
    whole: str,
    begin: int,
    index: int,
) -> int:
    """Where an answer ends: with the conversation up to it, or what of that the whole has, too.

    A template may leave reasoning out, or add an empty one, according to what follows: so the beginning of
    the answer may differ, not its end.
    """
    text = template.render(until, **options)
    if whole.startswith(text):
        return len(text)
    prompt = template.render(until[:-1], **_asking(options))
    own = text[_shared(prompt, text) :]
    for at in range(len(own)):
        rest = own[at:]
        if whole.startswith(rest, begin):
            if not _holds(rest, until[-1]):
                break
            return begin + len(rest)
    raise _unclear(index)


def _holds(text: str, message: Message) -> bool:
    """Whether a text holds what a message said last: its content's last line, the names of its calls."""
    lines = str(message.get("content") or "").strip().splitlines()
    calls = [call.get("function", call) for call in message.get("tool_calls") or ()]
    return all(part in text for part in [*lines[-1:], *(str(call["name"]) for call in calls)])


def _check_apart(spans: Sequence[Span]) -> None:
    for (_, stop), (start, _) in pairwise(spans):
        if start < stop:
            raise TemplateError("the chat template writes two answers of the assistant into one another")


def _unclear(index: int) -> TemplateError:
    return TemplateError(
        f"the chat template does not show where the assistant's message {index} begins and ends: add "
        "{% generation %} and {% endgeneration %} around what the assistant says in it"
    )
