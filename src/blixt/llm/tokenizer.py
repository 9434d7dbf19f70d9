"""Text to token ids and back, whichever files describe the vocabulary."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from blixt.llm.errors import TokenizerError
from blixt.llm.tokenizer_text import ByteTable, Detokenizer, table_of

if TYPE_CHECKING:
    from blixt.llm.chat.template import ChatTemplate

__all__ = ["END", "Detokenizer", "Tokenizer", "TokenizerFacts"]
END = "<|endoftext|>"


@dataclass(frozen=True)
class TokenizerFacts:
    """What a model's files say beyond the vocabulary.

    Attributes:
        bos: Id that begins a text.
        eos: All ids that end a turn; the first closes a document.
        adds_bos: Whether `encode` begins a text with `bos`.
        specials: Special tokens by their names in the files ("bos_token", "eos_token", ...), for templates.
        templates: Chat templates by name; "default" is the one for every conversation.
    """

    bos: int | None = None
    eos: tuple[int, ...] = ()
    adds_bos: bool = False
    specials: Mapping[str, str] = field(default_factory=dict[str, str])
    templates: Mapping[str, str] = field(default_factory=dict[str, str])


class Tokenizer:
    """Text to token ids and back.

    Args:
        inner: A `tokenizers.Tokenizer`.
        facts: What else its model's files say; by default that `<|endoftext|>` ends a document, if it is in
            the vocabulary.

    Example:
        ```python
        tokenizer = Tokenizer.train(["some text", "more text"], vocab_size=300)
        assert tokenizer.decode(tokenizer.encode("text")) == "text"
        ```
    """

    def __init__(self, inner: tokenizers.Tokenizer, facts: TokenizerFacts | None = None) -> None:
        self.inner = inner
        self.facts = facts if facts is not None else _plain_facts(inner)
        self._table: ByteTable | Literal[False] | None = False  # not looked at yet

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Learn a byte-level BPE vocabulary; every text can be encoded, whatever its characters.

        Args:
            texts: Documents to learn from.
            vocab_size: Size of the vocabulary, at least 257: 256 bytes and the end of a document.
        """
        special = [END]
        if vocab_size < 256 + len(special):
            raise TokenizerError(
                f"vocab_size={vocab_size} is too small: bytes and special tokens need {256 + len(special)}"
            )
        inner = tokenizers.Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator(texts, trainer)
        return cls(inner)

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a model's tokenizer.

        Args:
            path: A directory with `tokenizer.json` or a sentencepiece `tokenizer.model`, one of these files,
                or a `.gguf` file. Of a directory, `tokenizer_config.json`, `special_tokens_map.json`,
                `added_tokens.json`, `generation_config.json`, `config.json` and chat templates are read, too.

        Raises:
            TokenizerError: There is none, or it is not a tokenizer file.
        """
        from blixt.llm.tokenizer_files import read

        return cls(*read(Path(path)))

    def save(self, path: str | Path) -> None:
        """Write a `tokenizer.json`; into a directory, with what the other files say.

        A directory gets `tokenizer_config.json` (special tokens, chat template), too, and
        `generation_config.json` if it has none and several ids end a turn.
        """
        from blixt.llm.tokenizer_files import write

        write(self.inner, self.facts, Path(path))

    def __len__(self) -> int:
        """Size of the vocabulary."""
        return self.inner.get_vocab_size()

    @property
    def bos(self) -> int | None:
        """The id that begins a text; None if the model knows none."""
        return self.facts.bos

    @property
    def eos(self) -> tuple[int, ...]:
        """All ids that end a turn."""
        return self.facts.eos

    @property
    def end(self) -> int | None:
        """The id that closes a document; None if the vocabulary has none."""
        return self.facts.eos[0] if self.facts.eos else None

    @cached_property
    def template(self) -> "ChatTemplate | None":
        """The model's chat template; None for a model that has none.

        Raises:
            TemplateError: It is not a template.
        """
        if not self.facts.templates:
            return None
        from blixt.llm.chat.template import ChatTemplate

        return ChatTemplate(self.facts.templates, self.facts.specials, self)

    @property
    def table(self) -> ByteTable | None:
        """The bytes of each token; None if they depend on neighbours."""
        if self._table is False:
            self._table = table_of(self.inner)
        return self._table

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of the special tokens, which `decode` leaves out."""
        added = self.inner.get_added_tokens_decoder()
        return frozenset(token for token, added_token in added.items() if added_token.special)

    def encode(self, text: str, bos: bool | None = None) -> list[int]:
        """Ids of a text; special tokens written out in it are recognised.

        Args:
            text: Anything.
            bos: Begin with the token that begins a text: None as the model's files say, and in no case twice.

        Raises:
            TokenizerError: `bos` is True and the model knows no such token.
        """
        return self._begun(self.inner.encode(text, add_special_tokens=False).ids, bos)

    def encode_batch(self, texts: Sequence[str], bos: bool | None = None) -> list[list[int]]:
        """Ids of several texts, encoded on all cores."""
        encodings = self.inner.encode_batch(texts, add_special_tokens=False)
        return [self._begun(encoding.ids, bos) for encoding in encodings]

    def encode_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of a text and where in it each begins and ends, in characters; without a first token added."""
        encoding = self.inner.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of ids; bytes that are no character become U+FFFD.

        Args:
            ids: Token ids; those outside the vocabulary are left out.
            skip_special: Leave special tokens out.
        """
        if self.table is not None and not self.table.rule.byte_level:
            return self.table.decode(ids, skip_special)
        return self.decode_window(ids, skip_special)

    def decode_window(self, ids: Sequence[int], skip_special: bool) -> str:
        """Text of ids by the vocabulary's own decoder."""
        return self.inner.decode(list(ids), skip_special_tokens=skip_special)

    def stream(self, ids: Iterable[int], skip_special: bool = True) -> Iterator[str]:
        """Text of ids as they arrive; see `Detokenizer`."""
        detokenizer = Detokenizer(self, skip_special)
        for token in ids:
            yield detokenizer.add(token)
        yield detokenizer.finish()

    def text_of(self, token: int) -> str:
        """One token as people read it, for log-probabilities; special tokens by their names."""
        return self.inner.decode([token], skip_special_tokens=False)

    def bytes_of(self, token: int) -> bytes:
        """The bytes that a token stands for."""
        if self.table is None:
            return self.text_of(token).encode()
        return self.table.bytes_of(token, skip_special=False)

    def _begun(self, ids: list[int], bos: bool | None) -> list[int]:
        first = self.facts.bos
        if bos and first is None:
            raise TokenizerError("this tokenizer has no token that begins a text: leave bos=True out")
        wanted = self.facts.adds_bos if bos is None else bos
        if not wanted or first is None or ids[:1] == [first]:
            return ids
        return [first, *ids]


def _plain_facts(inner: tokenizers.Tokenizer) -> TokenizerFacts:
    end = inner.token_to_id(END)
    return TokenizerFacts() if end is None else TokenizerFacts(eos=(end,), specials={"eos_token": END})


def id_or_none(inner: tokenizers.Tokenizer, token: Any) -> int | None:
    """The id of a token that a file names; None if it names none, or one outside the vocabulary."""
    return None if not token else inner.token_to_id(str(token))
