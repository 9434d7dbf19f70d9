"""Text from token ids: what bytes a token stands for, and whole characters as the tokens arrive.

Nearly every language model has one of two vocabularies. Byte-level BPE writes each byte as a printable
character; sentencepiece writes spaces as "▁" and rare characters as byte tokens such as `<0xE3>`. In both a
token stands for the same bytes wherever it occurs, so that a stream is a concatenation. Other decoders look
at neighbours; for them a window of tokens is decoded again and again.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import tokenizers

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
WINDOW = 8
REPLACEMENT = "\ufffd"


class TextSource(Protocol):
    """What a `Detokenizer` needs of a tokenizer."""

    @property
    def table(self) -> "ByteTable | None":
        """The bytes of each token; None if they depend on neighbours."""
        ...

    def decode_window(self, ids: Sequence[int], skip_special: bool) -> str:
        """Text of a few ids by the tokenizer's own decoder."""
        ...


@dataclass(frozen=True)
class TextRule:
    """How tokens become bytes.

    Attributes:
        byte_level: Each character of a token is a byte (GPT-2's alphabet); else tokens are text.
        space: What stands for a space in a token's text.
        byte_tokens: Tokens such as `<0x0A>` are bytes.
        strip: How many spaces are dropped at the beginning of the whole.
        first_bare: The first token's spaces are dropped, wherever they are (the `Metaspace` decoder).
    """

    byte_level: bool = False
    space: str = ""
    byte_tokens: bool = False
    strip: int = 0
    first_bare: bool = False


def rule_of(decoder: dict[str, Any] | None) -> TextRule | None:
    """The rule of a `tokenizer.json`'s decoder; None if it has no such rule."""
    if decoder is None:
        return None
    steps = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return TextRule(byte_level=True)
    if kinds == ["Metaspace"]:
        return TextRule(space=steps[0]["replacement"], first_bare=_prepends(steps[0]))
    if kinds[:1] != ["Replace"] or kinds[1:] not in (
        ["Fuse"],
        ["ByteFallback", "Fuse"],
        ["ByteFallback", "Fuse", "Strip"],
        ["Fuse", "Strip"],
    ):
        return None
    pattern = steps[0]["pattern"].get("String")
    last = steps[-1]
    strips = last["type"] == "Strip"
    if (
        pattern is None
        or steps[0]["content"] != " "
        or (strips and (last["content"], last["stop"]) != (" ", 0))
    ):
        return None
    return TextRule(space=pattern, byte_tokens="ByteFallback" in kinds, strip=last["start"] if strips else 0)


def _prepends(step: dict[str, Any]) -> bool:
    """Whether a Metaspace step puts a space before a text, in the forms of old and new files."""
    scheme = step.get("prepend_scheme")
    return step.get("add_prefix_space", True) if scheme is None else scheme != "never"


class ByteTable:
    """The bytes that each token of a vocabulary stands for.

    Args:
        inner: The vocabulary.
        rule: How its tokens become bytes.
    """

    def __init__(self, inner: tokenizers.Tokenizer, rule: TextRule) -> None:
        self.rule = rule
        self._inner = inner
        self._known: dict[int, bytes] = {}
        added = inner.get_added_tokens_decoder()
        self._special = frozenset(token for token, added_token in added.items() if added_token.special)

    def bytes_of(self, token: int, skip_special: bool = True) -> bytes:
        """A token's bytes; none for a special token that is skipped, or for an id outside the vocabulary."""
        if skip_special and token in self._special:
            return b""
        known = self._known.get(token)
        if known is None:
            known = self._known[token] = self._read(self._inner.id_to_token(token) or "")
        return known

    def is_shown(self, token: int, skip_special: bool) -> bool:
        """Whether a token is one of the decoded sequence."""
        return not (skip_special and token in self._special) and self._inner.id_to_token(token) is not None

    def decode(self, ids: Sequence[int], skip_special: bool) -> str:
        """Text of ids; bytes that are no character become U+FFFD."""
        stream = _Bytes(self, skip_special)
        return "".join(map(stream.add, ids)) + stream.finish()

    def _read(self, token: str) -> bytes:
        rule = self.rule
        if rule.byte_level:
            raw = [BYTE_OF.get(character) for character in token]
            whole = [byte for byte in raw if byte is not None]
            return bytes(whole) if len(whole) == len(raw) else token.encode()
        if rule.byte_tokens and (match := BYTE_TOKEN.fullmatch(token)):
            return bytes([int(match[1], 16)])
        return token.replace(rule.space, " ").encode()


class _Bytes:
    """A stream over a `ByteTable`."""

    def __init__(self, table: ByteTable, skip_special: bool) -> None:
        self._table = table
        self._skip_special = skip_special
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._strip = table.rule.strip
        self._first = table.rule.first_bare

    def add(self, token: int) -> str:
        data = self._table.bytes_of(token, self._skip_special)
        if self._first and self._table.is_shown(token, self._skip_special):
            self._first = False
            data = data.replace(b" ", b"")
        return self._stripped(self._decoder.decode(data)) if data else ""

    def finish(self) -> str:
        return self._stripped(self._decoder.decode(b"", final=True))

    def _stripped(self, text: str) -> str:
        if self._strip and text:
            kept = text
            while self._strip and kept.startswith(" "):
                kept = kept[1:]
                self._strip -= 1
            if kept:
                self._strip = 0
            return kept
        return text


class _Window:
    """A stream by decoding the last few tokens over and over, for decoders that look at neighbours."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._context: list[int] = []
        self._pending: list[int] = []

    def add(self, token: int) -> str:
        self._pending.append(token)
        text = self._new()
        if text.endswith(REPLACEMENT):
            return ""
        self._context, self._pending = (self._context + self._pending)[-WINDOW:], []
        return text

    def finish(self) -> str:
        text = self._new() if self._pending else ""
        self._context, self._pending = [], []
        return text

    def _new(self) -> str:
        before = self._decode(self._context)
        return self._decode(self._context + self._pending)[len(before) :]


class Detokenizer:
    """Turns tokens into text one at a time, and never shows half a character.

    The pieces it gives, joined, equal the decoded whole.

    Args:
        tokenizer: A `Tokenizer`.
        skip_special: Leave special tokens out.
    """

    def __init__(self, tokenizer: TextSource, skip_special: bool = True) -> None:
        table = tokenizer.table
        self._stream = (
            _Window(lambda ids: tokenizer.decode_window(ids, skip_special))
            if table is None
            else _Bytes(table, skip_special)
        )

    def add(self, token: int) -> str:
        """The new text, or "" while a character is incomplete."""
        return self._stream.add(token)

    def add_all(self, tokens: Iterable[int]) -> str:
        """The new text of several tokens."""
        return "".join(map(self._stream.add, tokens))

    def finish(self) -> str:
        """What is left when no more tokens come."""
        return self._stream.finish()


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes are themselves, the others characters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + index): byte for index, byte in enumerate(rest)}


BYTE_OF = _byte_alphabet()


def table_of(inner: tokenizers.Tokenizer) -> ByteTable | None:
    """The bytes of a vocabulary's tokens; None if they depend on neighbours."""
    if inner.decoder is None:
        return None
    rule = rule_of(json.loads(inner.decoder.__getstate__()))
    return None if rule is None else ByteTable(inner, rule)


def add_tokens(
    inner: tokenizers.Tokenizer, tokens: Sequence[str | tokenizers.AddedToken], special: bool
) -> None:
    """Add tokens to a vocabulary, or make known ones whole; special ones can be left out of decoded text."""
    if special:
        inner.add_special_tokens(list(tokens))  # pyright: ignore[reportUnknownMemberType] - untyped stubs
    else:
        inner.add_tokens(list(tokens))  # pyright: ignore[reportUnknownMemberType] - untyped stubs
