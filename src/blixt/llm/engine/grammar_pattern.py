"""The automaton of a regular expression that stands inside a grammar, such as a JSON schema's `pattern`."""

import json
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from blixt.llm.errors import FormatError

EMPTY_STEP = -1
"""In place of a byte: a step that reads none."""


class Machine(NamedTuple):
    """A finite automaton over bytes.

    Attributes:
        start: Its first state.
        ends: States in which it may stop.
        steps: Of each state, (first byte, last byte, next state).
    """

    start: int
    ends: tuple[int, ...]
    steps: tuple[tuple[tuple[int, int, int], ...], ...]


@lru_cache(maxsize=256)
def pattern_machine(pattern: str, in_json: bool) -> Machine:
    """Read the automaton that xgrammar makes of a pattern.

    Args:
        pattern: A regular expression.
        in_json: Whether what it describes is written within a JSON string.

    Raises:
        FormatError: It is more than an automaton.
    """
    from xgrammar import Grammar, GrammarCompiler, TokenizerInfo, VocabType

    written = f"Regex({quoted(pattern)}, json_string={'true' if in_json else 'false'})"
    least = TokenizerInfo(["a", "end"], VocabType.RAW, vocab_size=2, stop_token_ids=[1])
    compiled = GrammarCompiler(least, max_threads=1).compile_grammar(Grammar.from_ebnf(f"root ::= {written}"))
    data: dict[str, Any] = json.loads(compiled.grammar.serialize_json())
    [[_, start, ends, *_], *_], *others = data["per_rule_fsms"]
    edges, bounds = data["complete_fsm"]["edges"]["data_"], data["complete_fsm"]["edges"]["indptr_"]
    if others or any(first < EMPTY_STEP for first, _, _ in edges):
        raise FormatError(f"the pattern {pattern!r} is more than a regular expression")
    steps = tuple(
        tuple((int(first), int(last), int(to)) for first, last, to in edges[low:high])
        for low, high in pairwise(bounds)
    )
    return Machine(start, tuple(ends), steps)


def quoted(text: str) -> str:
    """A text as an EBNF literal: all but plain letters and digits by their code points."""
    plain = (c if (c.isalnum() and c.isascii()) or c == " " else f"\\U{ord(c):08x}" for c in text)
    return '"' + "".join(plain) + '"'
