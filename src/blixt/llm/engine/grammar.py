"""Structured output: what text may look like, and which tokens may come next.

`compile_format` turns a `Format` into a `Grammar`, the state of one request: before a token is sampled it
fills the row of a bitmask with the tokens that fit, and is told the token that was taken. Near the length
limit it steers towards the end, so that the text is whole when the tokens run out: xgrammar matches, and
`grammar_closing` knows at every token how far the end is.
"""

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from blixt.llm.engine.grammar_closing import Closing, Place
from blixt.llm.engine.grammar_format import Format
from blixt.llm.engine.grammar_pattern import quoted
from blixt.llm.engine.grammar_schema import failing_place, prepare_schema
from blixt.llm.engine.grammar_state import GrammarState, allowing
from blixt.llm.engine.grammar_vocab import Vocabulary, vocabulary_of
from blixt.llm.errors import FormatError, LLMError

if TYPE_CHECKING:
    from xgrammar import CompiledGrammar
    from xgrammar import Grammar as XGrammar

    from blixt.llm.tokenizer import Tokenizer

# Spaces and line breaks in a row inside JSON: enough to indent, too few to fill an answer with.
_MAX_WHITESPACE = 20
ANY_OBJECT = '{"type": "object", "additionalProperties": true}'


def compile_format(
    format: Format, tokenizer: "Tokenizer", vocab: int, eos: Sequence[int] | None = None
) -> GrammarState:
    """A fresh grammar for one request; what is costly to compile is kept for the next.

    Args:
        format: What the text has to look like.
        tokenizer: Whose tokens it is made of.
        vocab: Width of the model's logits, at least the tokenizer's size.
        eos: Ids that end a text; the tokenizer's own by default.

    Raises:
        FormatError: The format cannot be compiled; the sentence says where.
        LLMError: xgrammar is not installed.
    """
    ids = _end_ids(tokenizer) if eos is None else tuple(eos)
    if not ids:
        raise FormatError("structured output needs an end token, and the model has none")
    vocabulary = _vocabulary(tokenizer, vocab, ids)
    if format.kind == "either":
        from blixt.llm.engine.grammar_branches import Branch, Branches

        made = [
            Branch(
                tuple(tokenizer.encode(opening, bos=False)) if opening else (),
                None if form is None else Grammar(_compile(form, vocabulary), vocabulary),
            )
            for opening, form in format.branches
        ]
        return Branches(made, vocab)
    return Grammar(_compile(format, vocabulary), vocabulary)


def allocate_bitmask(rows: int, vocab: int) -> Tensor:
    """A bitmask that allows everything: int32 (rows, ceil(vocab / 32)) on the CPU."""
    return torch.full((rows, -(-vocab // 32)), -1, dtype=torch.int32)


def apply_bitmask(logits: Tensor, bitmask: Tensor, rows: Sequence[int] | None = None) -> None:
    """Set the logits of forbidden tokens to minus infinity, in place.

    Args:
        logits: Scores, (N, V) of a floating dtype, on any device.
        bitmask: What is allowed, int32 (N, ceil(V / 32)).
        rows: Which rows have a grammar; all by default.
    """
    chosen = torch.arange(logits.shape[0]) if rows is None else torch.tensor(list(rows), dtype=torch.long)
    if not chosen.numel():
        return
    shifts = torch.arange(32, dtype=torch.int32, device=logits.device)
    words = bitmask[chosen].to(logits.device, non_blocking=True)
    allowed = ((words.unsqueeze(-1) >> shifts) & 1).flatten(1)[:, : logits.shape[1]].bool()
    chosen = chosen.to(logits.device)
    logits[chosen] = logits[chosen].masked_fill(~allowed, float("-inf"))


@dataclass(frozen=True)
class Compiled:
    """A format, ready to be matched.

    Attributes:
        grammar: xgrammar's form of it.
        closing: Knows what closes its texts.
        usable: The bitmask row of tokens that may occur at all; None for all.
    """

    grammar: "CompiledGrammar"
    closing: Closing
    usable: Tensor | None = None


class Grammar(GrammarState):
    """Where one request's text stands in its format.

    Attributes:
        complete: Whether the text so far fits the whole format.
        done: Whether, besides, nothing but an end token may follow.
    """

    def __init__(self, compiled: Compiled, vocabulary: Vocabulary) -> None:
        from xgrammar import GrammarMatcher

        self._matcher = GrammarMatcher(compiled.grammar)
        self._vocabulary = vocabulary
        self.end_ids = vocabulary.end_ids
        self._usable = compiled.usable
        self._closing = compiled.closing
        self._places: list[Place | None] = [compiled.closing.start]  # one behind each accepted token
        self._plans: list[list[int] | None] = [None]  # what is left of a plan that the text follows there
        self._row = allocate_bitmask(1, vocabulary.size)

    @property
    def complete(self) -> bool:
        """Whether the text so far fits the whole format."""
        return self._matcher.is_terminated() or self._matcher.is_completed()

    @property
    def done(self) -> bool:
        """Whether the text is complete and nothing but an end token may follow."""
        if self._matcher.is_terminated():
            return True
        if not self._matcher.is_completed():
            return False
        self._matcher.fill_next_token_bitmask(self._row)
        return bool((self._row[0] & ~self._vocabulary.end_mask).eq(0).all())

    @property
    def least(self) -> int | None:
        """How many tokens the shortest end of the text takes from here; None when none is known."""
        plan = self._plan()
        return None if plan is None else len(plan)

    def fill(self, row: Tensor, left: int) -> None:
        """Write which tokens may come next.

        Args:
            row: One row of the bitmask, int32 (ceil(V / 32),), overwritten.
            left: How many tokens may still be generated, this one included.
        """
        place = self._places[-1]
        near = place is not None and place.cost >= left  # a byte takes a token at most
        plan = self._plan() if near else None
        if plan and len(plan) >= left:
            allowing(row.zero_(), plan[0])
            return
        self._matcher.fill_next_token_bitmask(row.view(1, -1))
        if self._usable is not None:
            row &= self._usable

    def accept(self, token: int, left: int) -> int:
        """Go on by one token.

        Args:
            token: The one that was sampled.
            left: The same count that `fill` was given.

        Returns:
            The token to use: the sampled one, or what begins to close the text where the sampled one would
            have left too few tokens for that.

        Raises:
            LLMError: The token does not fit, so the bitmask was not applied.
        """
        if not self._matcher.accept_token(token):
            raise LLMError(f"token {token} does not fit the request's format: apply its bitmask first")
        before, ends = self._places[-1], token in self._vocabulary.end_ids
        after = before
        if before is not None and not ends:
            after = self._closing.follow(before, self._vocabulary.texts[token])
        self._places.append(after)
        self._plans.append(None)
        if ends or after is None or after.cost < left:  # a byte takes a token at most
            return token
        plan = self._plan(-2)
        if plan is None or len(plan) > left:
            return token  # there was never room for the whole text
        if plan and plan[0] == token:
            self._plans[-1] = plan[1:]
        elif (further := self._plan()) is None or len(further) >= left:
            self.rollback(1)
            return self.accept(plan[0] if plan else self._vocabulary.end_ids[0], left)
        return token

    def rollback(self, count: int) -> None:
        """Take back the last `count` accepted tokens."""
        if count:
            self._matcher.rollback(count)
            del self._places[-count:], self._plans[-count:]

    def _plan(self, at: int = -1) -> list[int] | None:
        """The tokens that close the text from here; None when no way is known."""
        place, plan = self._places[at], self._plans[at]
        return plan if plan is not None or place is None else self._closing.tokens(place)


def _end_ids(tokenizer: "Tokenizer") -> tuple[int, ...]:
    eos = tokenizer.eos
    return (eos,) if isinstance(eos, int) else tuple(eos or ())


_vocabularies: "WeakKeyDictionary[Tokenizer, dict[Hashable, Vocabulary]]" = WeakKeyDictionary()


def _vocabulary(tokenizer: "Tokenizer", size: int, end_ids: tuple[int, ...]) -> Vocabulary:
    known = _vocabularies.setdefault(tokenizer, {})
    if (size, end_ids) not in known:
        known[size, end_ids] = vocabulary_of(tokenizer, size, end_ids)
    return known[size, end_ids]


@lru_cache(maxsize=256)
def _compile(format: Format, vocabulary: Vocabulary) -> Compiled:
    schema = json.loads(str(format.value) or ANY_OBJECT) if format.kind.startswith("json") else None
    try:
        grammar = _parsed(format, schema)
        compiled = vocabulary.compiler.compile_grammar(grammar)
    except RuntimeError as error:
        reason = str(error).strip().split(": ", 1)[-1].removeprefix("Check failed: ")
        where = f" at {failing_place(schema)}" if format.kind == "json_schema" else ""
        raise FormatError(f"the {format.kind} cannot be compiled{where}: {reason}") from None
    closing = Closing(grammar.serialize_json(), vocabulary, in_json=schema is not None)
    return Compiled(compiled, closing, None if schema is None else vocabulary.without_control)


def _parsed(format: Format, schema: Any) -> "XGrammar":
    from xgrammar import Grammar as XGrammar

    value = format.value
    if isinstance(value, tuple):
        return XGrammar.from_ebnf("root ::= " + " | ".join(map(quoted, value)))
    if format.kind == "regex":
        return XGrammar.from_regex(value)
    if format.kind == "ebnf":
        return XGrammar.from_ebnf(value)
    return XGrammar.from_json_schema(json.dumps(prepare_schema(schema)), max_whitespace_cnt=_MAX_WHITESPACE)
