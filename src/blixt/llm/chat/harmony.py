"""Answers of gpt-oss: messages on channels ("harmony").

`<|channel|>analysis<|message|>` begins reasoning, `final` content, `commentary to=functions.NAME` a call;
`<|end|>`, `<|call|>` and `<|return|>` end a message, and `<|start|>assistant` begins the next.
"""

import json
import re
from collections.abc import Iterator

from blixt.llm.chat.answers import Machine, Part, PartKind, first_of, overlap
from blixt.llm.chat.calls import ToolCall

START, CHANNEL, CONSTRAIN, MESSAGE = "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>")
MARKERS = (START, CHANNEL, CONSTRAIN, MESSAGE, *ENDS)
HEADS = (CHANNEL, START, MESSAGE, "to=")


class Harmony(Machine):
    """Reasoning, content and calls on channels."""

    def __init__(self) -> None:
        self._buffer = ""
        self._state = "begin"
        self._kind: PartKind = "content"
        self._callee: str | None = None

    def feed(self, text: str) -> Iterator[Part]:
        """Parts that the next text completes."""
        self._buffer += text
        state = None
        while state != (self._state, len(self._buffer)):
            state = (self._state, len(self._buffer))
            yield from self._advance()

    def finish(self) -> Iterator[Part]:
        """What is left: an unfinished call is read as far as it goes."""
        rest, self._buffer = self._buffer, ""
        if self._state == "body" and self._callee is not None:
            yield self._call(rest)
        elif rest and self._state in ("begin", "body"):
            yield Part(self._kind, rest)

    def _advance(self) -> Iterator[Part]:
        if self._state == "begin":
            self._begin()
        elif self._state == "between":
            self._skip()
        if self._state == "head":
            self._read_head()
        if self._state == "body":
            yield from self._read_body()

    def _begin(self) -> None:
        """The first text is a head, or content of a model that was made to write something else."""
        seen = self._buffer.lstrip()
        if any(seen.startswith(head) for head in HEADS):
            self._state = "head"
        elif seen and not any(head.startswith(seen) for head in HEADS):
            self._state = "body"

    def _skip(self) -> None:
        """After a message, only the next head counts."""
        at, mark = first_of(self._buffer, (START, CHANNEL))
        if mark:
            self._buffer, self._state = self._buffer[at:], "head"
        else:
            kept = overlap(self._buffer, (START, CHANNEL))
            self._buffer = self._buffer[len(self._buffer) - kept :]

    def _read_head(self) -> None:
        head, found, after = self._buffer.partition(MESSAGE)
        if not found:
            return
        channel = re.search(re.escape(CHANNEL) + r"\s*(\w+)", head)
        recipient = re.search(r"to=([^\s<]+)", head)
        self._kind = "reasoning" if channel is not None and channel[1] == "analysis" else "content"
        self._callee = None if recipient is None else recipient[1].removeprefix("functions.")
        self._buffer, self._state = after, "body"

    def _read_body(self) -> Iterator[Part]:
        at, mark = first_of(self._buffer, (*ENDS, START))
        if self._callee is not None:
            if mark:
                yield self._call(self._buffer[:at])
        else:
            kept = 0 if mark else overlap(self._buffer, (*ENDS, START))
            at = at if mark else len(self._buffer) - kept
            if at:
                yield Part(self._kind, self._buffer[:at])
                self._buffer = self._buffer[at:]
                at = 0
        if mark:
            self._buffer = self._buffer[at + (0 if mark == START else len(mark)) :]
            self._state, self._callee = "between", None

    def _call(self, body: str) -> Part:
        name, self._callee = self._callee or "", None
        try:
            json.loads(body)
        except ValueError:
            body = json.dumps(body, ensure_ascii=False) if body.strip() else "{}"
        return Part("tool_call", call=ToolCall(name, body.strip()))
