"""Byte-level BPE on the `tokenizers` library, and text from tokens as they arrive."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from blixt.llm.errors import TokenizerError

END = "<|endoftext|>"


class Tokenizer:
    """Text to token ids and back.

    Args:
        inner: A `tokenizers.Tokenizer`.

    Example:
        ```python
        tokenizer = Tokenizer.train(["some text", "more text"], vocab_size=300)
        assert tokenizer.decode(tokenizer.encode("text")) == "text"
        ```
    """

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        self.inner = inner
        self.eos: int | None = inner.token_to_id(END)

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
        """Read a `tokenizer.json`, or the one in a directory.

        Raises:
            TokenizerError: There is none, or it is not a tokenizer file.
        """
        path = Path(path)
        path = path / "tokenizer.json" if path.is_dir() else path
        if not path.is_file():
            raise TokenizerError(f"{path} does not exist: train one with `blixt llm train-tokenizer`")
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)))
        except Exception as error:  # the library raises bare Exception for a file it cannot read
            raise TokenizerError(f"{path} is not a tokenizer file: {error}") from None

    def save(self, path: str | Path) -> None:
        """Write a `tokenizer.json`; into it when `path` is a directory."""
        path = Path(path)
        self.inner.save(str(path / "tokenizer.json" if path.is_dir() else path))

    def __len__(self) -> int:
        """Size of the vocabulary."""
        return self.inner.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of a text; special tokens written out in it are recognised."""
        return self.inner.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of several texts, encoded on all cores."""
        return [encoding.ids for encoding in self.inner.encode_batch(texts, add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, without special tokens; bytes that are no character become U+FFFD."""
        return self.inner.decode(list(ids), skip_special_tokens=True)

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Text of ids as they arrive; see `Detokenizer`."""
        detokenizer = Detokenizer(self)
        for token in ids:
            yield detokenizer.add(token)
        yield detokenizer.finish()


class Detokenizer:
    """Turns tokens into text one at a time, and never shows half a character.

    The pieces it gives, joined, equal the decoded whole.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._pending: list[int] = []
        self._context: list[int] = []

    def add(self, token: int) -> str:
        """The new text, or "" while a character is incomplete."""
        self._pending.append(token)
        text = self._text()
        if text.endswith("\ufffd"):
            return ""
        # The last token stays as context: some decoders treat the first token of a sequence differently.
        self._context, self._pending = self._pending[-1:], []
        return text

    def finish(self) -> str:
        """What is left when no more tokens come."""
        text = self._text() if self._pending else ""
        self._context, self._pending = [], []
        return text

    def _text(self) -> str:
        before = self._tokenizer.decode(self._context)
        return self._tokenizer.decode(self._context + self._pending)[len(before) :]
