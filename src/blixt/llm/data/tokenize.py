"""Examples to token ids and masks, with an account of whatever did not fit."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from blixt.llm.data.blocks import Encoded, Unit
from blixt.llm.data.examples import Answered, Chat, Completion, Example, Judged, Preference, Task, Text
from blixt.llm.errors import CorpusError, TemplateError, TokenizerError

if TYPE_CHECKING:
    from blixt.llm.chat.template import ChatTemplate
    from blixt.llm.tokenizer import Tokenizer

TooLong = Literal["auto", "split", "right", "left", "drop", "error"]
NOTHING = Encoded(np.empty(0, np.int32), np.empty(0, np.bool_))


@dataclass(frozen=True)
class Report:
    """What became of the examples.

    Attributes:
        examples: Given.
        documents: Made of them: a long text gives several, a preference two.
        tokens: In the documents.
        learned: Tokens that the loss counts.
        split: Texts longer than a block, which were cut into several documents without loss.
        truncated: Documents that were cut.
        lost: Tokens that were cut off.
        dropped: Examples left out, because they were too long or nothing to learn was left.
    """

    examples: int = 0
    documents: int = 0
    tokens: int = 0
    learned: int = 0
    split: int = 0
    truncated: int = 0
    lost: int = 0
    dropped: int = 0

    def __str__(self) -> str:
        said = f"{self.examples} examples, {self.tokens} tokens of which {self.learned} are learned"
        if self.split:
            said += f"; {self.split} long texts became several documents"
        if self.truncated:
            said += f"; {self.truncated} documents were cut ({self.lost} tokens lost)"
        if self.dropped:
            said += f"; {self.dropped} examples were left out"
        return said


@dataclass(frozen=True)
class Tokenized:
    """Units to pack, and the account of them.

    Attributes:
        units: One tuple of documents for each example (several for a text that was split).
        report: What became of the examples.
        sources: For each unit the index of its example.
    """

    units: list[Unit]
    report: Report
    sources: list[int] = field(default_factory=list[int])


def tokenize(
    examples: Sequence[Example],
    tokenizer: "Tokenizer",
    max_length: int,
    *,
    template: "ChatTemplate | None" = None,
    learn: Literal["answers", "all"] = "answers",
    too_long: TooLong = "auto",
) -> Tokenized:
    """Turn examples into tokens.

    A text ends with the tokenizer's end token; a chat is what the chat template makes of it, and the mask is
    on what the assistant says, the end of its turns included; of a completion the prompt is not learned. A
    preference is a unit of two documents (chosen, rejected), a judged answer one of two of which the other is
    empty (wanted first, unwanted second).

    Args:
        examples: What `load_examples` read.
        tokenizer: The model's.
        max_length: Places a document may take: tokens less one.
        template: For chats; None takes the tokenizer's own.
        learn: "all" counts the loss on prompts, too.
        too_long: What to do with a longer document. "split": cut it into several (texts only; each further
            one begins with the last token of the one before, so that no target is lost); "right", "left": cut
            its end or beginning off; "drop": leave the example out; "error": stop. "auto" splits texts and
            cuts the end of everything else.

    Raises:
        CorpusError: Nothing is left, an example cannot be tokenised, or one is too long with "error".
        TokenizerError: Chats are to be tokenised and there is no chat template.
    """
    if max_length < 1:
        raise CorpusError(f"max_length={max_length}: a document takes at least 1 place")
    writer = _Writer(tokenizer, max_length, template or tokenizer.template, learn == "all", too_long)
    units: list[Unit] = []
    sources: list[int] = []
    for number, example in enumerate(examples):
        made = writer.units(example)
        units += made
        sources += [number] * len(made)
    documents = [document for unit in units for document in unit if len(document.ids)]
    report = replace(
        writer.report,
        examples=len(examples),
        documents=len(documents),
        tokens=sum(len(d.ids) for d in documents),
        learned=sum(int(d.mask[1:].sum()) for d in documents),
    )
    if not units:
        raise CorpusError(f"no example is left to learn from: {report}; make max_length={max_length} larger")
    return Tokenized(units, report, sources)


def prompt_ids(task: Task, tokenizer: "Tokenizer", template: "ChatTemplate | None" = None) -> list[int]:
    """The tokens of a task's prompt, up to where an answer begins.

    Raises:
        TokenizerError: It is a conversation and there is no chat template.
    """
    if not task.messages:
        return tokenizer.encode(task.prompt)
    chosen = _needed(template or tokenizer.template, task.origin)
    text = chosen.render(task.messages, task.tools or None, add_generation_prompt=True)
    return tokenizer.encode(text, bos=False)


class _Writer:
    """Documents of one example after the other, and what was lost on the way."""

    def __init__(
        self,
        tokenizer: "Tokenizer",
        max_length: int,
        template: "ChatTemplate | None",
        everything: bool,
        too_long: TooLong,
    ) -> None:
        self.tokenizer, self.max_length, self.template = tokenizer, max_length, template
        self.everything, self.too_long = everything, too_long
        self.report = Report()

    def units(self, example: Example) -> list[Unit]:
        """The units of an example; none when it is left out."""
        if isinstance(example, Text):
            return self._pieces(example)
        if isinstance(example, Preference):
            pair = [self._fitted(answer) for answer in (example.chosen, example.rejected)]
            return [(pair[0], pair[1])] if pair[0] and pair[1] else self._drop()
        if isinstance(example, Judged):
            document = self._fitted(example.answer)
            if not document:
                return self._drop()
            return [(document, NOTHING) if example.wanted else (NOTHING, document)]
        if isinstance(example, Task):
            raise CorpusError(f"{example.origin} is a task without an answer: `grpo` learns from those")
        document = self._fitted(example)
        return [(document,)] if document else self._drop()

    def _pieces(self, example: Text) -> list[Unit]:
        ids = self.tokenizer.encode(example.text)
        if self.tokenizer.end is not None:
            ids.append(self.tokenizer.end)
        document = Encoded(np.array(ids, np.int32), np.ones(len(ids), np.bool_))
        if document.slots <= self.max_length or self.too_long not in ("auto", "split"):
            fitted = self._cut(document, example.origin)
            return [(fitted,)] if fitted else self._drop()
        self._count(split=1)
        starts = range(0, document.slots, self.max_length)
        ends = [start + self.max_length + 1 for start in starts]
        return [(Encoded(document.ids[a:b], document.mask[a:b]),) for a, b in zip(starts, ends, strict=True)]

    def _fitted(self, answer: Answered) -> Encoded | None:
        document = self._completion(answer) if isinstance(answer, Completion) else self._chat(answer)
        if self.everything:
            document = Encoded(document.ids, np.ones(len(document.ids), np.bool_))
        return self._cut(document, answer.origin)

    def _cut(self, document: Encoded, origin: str) -> Encoded | None:
        """The document, shortened when it is too long; None when nothing to learn is left."""
        over = document.slots - self.max_length
        if over > 0:
            if self.too_long == "error":
                raise CorpusError(
                    f"{origin} has {document.slots + 1} tokens, and max_length={self.max_length} takes "
                    f"{self.max_length + 1}: choose too_long, or make max_length larger"
                )
            if self.too_long == "drop":
                return None
            part = slice(over, None) if self.too_long == "left" else slice(0, self.max_length + 1)
            document = Encoded(document.ids[part], document.mask[part])
        if not document.mask[1:].any():
            return None
        if over > 0:
            self._count(truncated=1, lost=over)
        return document

    def _completion(self, example: Completion) -> Encoded:
        # Apart, because what follows must not change how the prompt is cut into tokens.
        prompt = self.tokenizer.encode(example.prompt)
        answer = self.tokenizer.encode(example.completion, bos=False if prompt else None)
        if self.tokenizer.end is not None:
            answer.append(self.tokenizer.end)
        mask = np.arange(len(prompt) + len(answer)) >= len(prompt)
        return Encoded(np.array(prompt + answer, np.int32), mask)

    def _chat(self, example: Chat) -> Encoded:
        template = _needed(self.template, example.origin)
        tools = example.tools or None
        try:
            ids, mask = template.mask(example.messages, tools)
            learned = np.array(mask, np.bool_)
            if any(m["role"] == "assistant" for m in example.messages[: example.learned_from]):
                learned &= self._after(example, template)
        except TemplateError as error:
            raise CorpusError(f"{example.origin}: {error}") from error
        return Encoded(np.array(ids, np.int32), learned)

    def _after(self, example: Chat, template: "ChatTemplate") -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """True from the first answer that is to be learned on, for a prompt that holds earlier answers."""
        from blixt.llm.chat.masks import answer_spans

        text, spans = answer_spans(template, example.messages, example.tools or None)
        earlier = sum(m["role"] == "assistant" for m in example.messages[: example.learned_from])
        answers = sum(m["role"] == "assistant" for m in example.messages)
        if len(spans) != answers:
            raise TemplateError(
                f"the chat template marks {len(spans)} answers in a conversation that has {answers}, so the "
                "prompt's cannot be told from the last"
            )
        _, places = self.tokenizer.encode_spans(text)
        return np.array([place[0] >= spans[earlier][0] for place in places], np.bool_)

    def _drop(self) -> list[Unit]:
        self._count(dropped=1)
        return []

    def _count(self, **more: int) -> None:
        now = {name: getattr(self.report, name) + number for name, number in more.items()}
        self.report = replace(self.report, **now)


def _needed(template: "ChatTemplate | None", origin: str) -> "ChatTemplate":
    if template is None:
        raise TokenizerError(
            f"{origin} is a conversation and this tokenizer has no chat template: give one (template=), or "
            "use prompt and completion as plain text"
        )
    return template
