"""A model's answer taken apart while it is written: content, reasoning, tool calls.

Which markers to look for is found in the template's own text. What comes out does not depend on where the
text was split on its way in; a call that cannot be read is content, so that nothing is lost.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from blixt.llm.chat.calls import CallSyntax, ToolCall, syntax_of

PartKind = Literal["content", "reasoning", "tool_call"]
THINK = (("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>"))


@dataclass(frozen=True)
class Part:
    """The next of an answer.

    Attributes:
        kind: "content", "reasoning" or "tool_call".
        text: Content or reasoning.
        call: A tool call, complete.
    """

    kind: PartKind
    text: str = ""
    call: ToolCall | None = None


@dataclass(frozen=True)
class AnswerKind:
    """How a model's answers are written.

    Attributes:
        thinking: The markers around its reasoning.
        calls: How it writes tool calls.
        harmony: It writes messages on channels (gpt-oss), instead of both.
    """

    thinking: tuple[str, str] | None = None
    calls: CallSyntax | None = None
    harmony: bool = False

    @classmethod
    def of(cls, template: str) -> "AnswerKind":
        """The kind whose markers a template's text holds.

        Example:
            >>> AnswerKind.of("... <think> ... <tool_call> ...").thinking
            ('<think>', '</think>')
        """
        if "<|channel|>" in template and "<|message|>" in template:
            return cls(harmony=True)
        thinking = next((pair for pair in THINK if pair[0] in template or pair[1] in template), None)
        return cls(thinking, syntax_of(template))

    @property
    def markers(self) -> tuple[str, ...]:
        """All text that a detokeniser must not leave out, though it be special tokens."""
        if self.harmony:
            from blixt.llm.chat.harmony import MARKERS

            return MARKERS
        return (*(self.thinking or ()), *(self.calls.markers if self.calls else ()))


class AnswerParser:
    """Takes an answer apart as it comes.

    Args:
        kind: How it is written.
        tools: Names of the tools that the model was offered; calls are looked for only if there are some.
        prompt: The text that the answer goes on from: one that ends within reasoning has the answer begin
            there.

    Example:
        >>> parser = AnswerParser(AnswerKind(thinking=("<think>", "</think>")))
        >>> [(p.kind, p.text) for p in parser.feed("<think>hm</think>\\n\\nYes") + parser.finish()]
        [('reasoning', 'hm'), ('content', 'Yes')]
    """

    def __init__(self, kind: AnswerKind, tools: Collection[str] = (), prompt: str = "") -> None:
        self._machine = _machine(kind, tools, prompt)

    def feed(self, text: str) -> list[Part]:
        """The parts that the next text completes."""
        return list(merged(self._machine.feed(text))) if text else []

    def finish(self) -> list[Part]:
        """What is left when the answer has ended."""
        return list(merged(self._machine.finish()))


def _machine(kind: AnswerKind, tools: Collection[str], prompt: str) -> "Machine":
    if kind.harmony:
        from blixt.llm.chat.harmony import Harmony

        return Harmony()
    calls = kind.calls if tools else None
    if kind.thinking is None and calls is None:
        return Plain()
    begun = kind.thinking is not None and prompt.rstrip().endswith(kind.thinking[0])
    return Marked(kind.thinking, calls, tools, begun)


class Machine:
    """What turns text into parts."""

    def feed(self, text: str) -> Iterator[Part]:
        """Parts that the next text completes."""
        raise TypeError(f"{type(self).__name__} has no feed method")

    def finish(self) -> Iterator[Part]:
        """What is left."""
        raise TypeError(f"{type(self).__name__} has no finish method")


class Plain(Machine):
    """All is content."""

    def feed(self, text: str) -> Iterator[Part]:
        """The text."""
        yield Part("content", text)

    def finish(self) -> Iterator[Part]:
        """Nothing."""
        return iter(())


@dataclass
class Trim:
    """Text without the white space at its seams: what comes first may be dropped, what is last waits."""

    kind: PartKind
    lead: bool = False
    held: str = field(default="", init=False)

    def add(self, text: str) -> Iterator[Part]:
        """The next text."""
        text = self.held + text
        self.held = ""
        if self.lead:
            text = text.lstrip()
        kept = text.rstrip()
        self.held = text[len(kept) :]
        if kept:
            self.lead = False
            yield Part(self.kind, kept)

    def end(self) -> Iterator[Part]:
        """The white space at the end, where it belongs to the text."""
        held, self.held = self.held, ""
        if held:
            yield Part(self.kind, held)


class Marked(Machine):
    """Reasoning and calls between markers."""

    def __init__(
        self,
        thinking: tuple[str, str] | None,
        calls: CallSyntax | None,
        names: Collection[str],
        begun: bool,
    ) -> None:
        self._thinking = thinking
        self._calls = calls
        self._names = names
        self._buffer = ""
        self._content = Trim("content")
        self._reasoning = Trim("reasoning", lead=True)
        self._fresh = True  # nothing but white space yet
        self._state = "reasoning" if begun else "content"
        if not begun and calls is not None and calls.bare is not None:
            self._state = "start"

    def feed(self, text: str) -> Iterator[Part]:
        """Parts that the next text completes."""
        self._buffer += text
        state = None
        while state != (self._state, len(self._buffer)):
            state = (self._state, len(self._buffer))
            yield from self._advance()

    def finish(self) -> Iterator[Part]:
        """What is left: an unclosed call is read as far as it goes."""
        rest, self._buffer = self._buffer, ""
        if self._state in ("call", "start"):
            yield from self._called(rest, bare=self._state == "start")
        elif self._state == "bare":
            yield from self._called(rest, bare=True)
        elif self._state == "reasoning":
            yield from self._reasoning.add(rest)
            return
        else:
            yield from self._content.add(rest)
        if not self._content.lead:
            yield from self._content.end()

    def _advance(self) -> Iterator[Part]:
        if self._state == "start":
            self._decide()
        if self._state == "reasoning":
            yield from self._think()
        elif self._state == "content":
            yield from self._say()
        elif self._state == "call":
            yield from self._call()

    def _decide(self) -> None:
        """Whether the answer begins with a call that has no opening."""
        assert self._calls is not None
        assert self._calls.bare is not None
        begins = self._calls.bare(self._buffer, self._names)
        if begins is not None:
            self._state = "bare" if begins else "content"

    def _think(self) -> Iterator[Part]:
        assert self._thinking is not None
        before, found, after = self._buffer.partition(self._thinking[1])
        if found:
            yield from self._reasoning.add(before)
            self._reasoning.held = ""
            self._buffer, self._state, self._fresh = after, "content", False
            self._content.lead = True
            return
        held = overlap(self._buffer, [self._thinking[1]])
        at = len(self._buffer) - held
        yield from self._reasoning.add(self._buffer[:at])
        self._buffer = self._buffer[at:]

    def _say(self) -> Iterator[Part]:
        openings = self._openings()
        at, opening = first_of(self._buffer, openings)
        if opening:
            before, self._buffer = self._buffer[:at], self._buffer[at + len(opening) :]
            if before.strip():
                self._fresh = False
            thinks = self._thinking is not None and opening == self._thinking[0]
            if thinks and not self._fresh:
                yield from self._content.add(before + opening)
                return
            yield from self._content.add(before)
            self._content.held = "" if thinks else self._content.held
            self._state = "reasoning" if thinks else "call"
            return
        cut = len(self._buffer) - overlap(self._buffer, openings)
        if self._buffer[:cut].strip():
            self._fresh = False
        yield from self._content.add(self._buffer[:cut])
        self._buffer = self._buffer[cut:]

    def _openings(self) -> list[str]:
        openings = [self._thinking[0]] if self._thinking is not None and self._fresh else []
        return (
            [*openings, self._calls.opening] if self._calls is not None and self._calls.opening else openings
        )

    def _call(self) -> Iterator[Part]:
        assert self._calls is not None
        closing = self._calls.closing or self._calls.opening
        body, found, after = self._buffer.partition(closing)
        if not found:
            return
        self._buffer = after
        self._state = "content" if self._calls.closing else "call"
        yield from self._called(body, bare=False, closed=bool(self._calls.closing))

    def _called(self, body: str, *, bare: bool, closed: bool = False) -> Iterator[Part]:
        assert self._calls is not None
        try:
            calls = self._calls.read(body)
            if body.strip() == calls[0].name and calls[0].name not in self._names:
                raise ValueError("a word that is no tool")
        except (ValueError, RecursionError):
            opening = "" if bare else self._calls.opening
            self._fresh = False
            yield from self._content.add(opening + body + (self._calls.closing if closed else ""))
            return
        self._content.held, self._content.lead, self._fresh = "", True, False
        for call in calls:
            yield Part("tool_call", call=call)


def first_of(text: str, wanted: Iterable[str]) -> tuple[int, str]:
    """Where the first of some texts begins, and which it is; ("" and -1) if none is there."""
    found = [(at, -len(one), one) for one in wanted if (at := text.find(one)) >= 0]
    at, _, one = min(found, default=(-1, 0, ""))
    return at, one


def overlap(text: str, wanted: Iterable[str]) -> int:
    """Length of the longest end of a text that begins one of some texts."""
    longest = 0
    for one in wanted:
        for length in range(min(len(text), len(one) - 1), longest, -1):
            if one.startswith(text[-length:]):
                longest = length
                break
    return longest


def merged(parts: Iterable[Part]) -> Iterator[Part]:
    """Neighbouring texts of one kind as one part."""
    last: Part | None = None
    for part in parts:
        if last is not None and last.kind == part.kind != "tool_call":
            last = Part(part.kind, last.text + part.text)
            continue
        if last is not None:
            yield last
        last = part
    if last is not None:
        yield last


def parse(
    text: str, kind: AnswerKind, tools: Collection[str] = (), prompt: str = ""
) -> tuple[str, str, Sequence[ToolCall]]:
    """A complete answer as (content, reasoning, tool calls)."""
    parser = AnswerParser(kind, tools, prompt)
    parts = [*parser.feed(text), *parser.finish()]
    content = "".join(part.text for part in parts if part.kind == "content")
    reasoning = "".join(part.text for part in parts if part.kind == "reasoning")
    return content, reasoning, [part.call for part in parts if part.call is not None]
