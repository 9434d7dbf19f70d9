"""From files of text to a tokenizer and to token shards that training streams."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from blixt.data import DatasetExistsError, TokenDataset, Tokens, optimize
from blixt.llm.corpus import find_texts, read_text
from blixt.llm.errors import CorpusError, TokenizerError
from blixt.llm.tokenizer import Tokenizer


def train_tokenizer(
    inputs: Sequence[str | Path],
    *,
    out: str | Path = "tokenizer.json",
    vocab_size: int = 2048,
    pattern: str = "*.py",
    max_bytes: str | int = "8MB",
) -> Path:
    """Learn a byte-level BPE tokenizer from files.

    Args:
        inputs: Files or folders.
        out: The file to write; folders above it are made.
        vocab_size: Size of the vocabulary.
        pattern: Which files of a folder to read.
        max_bytes: How much text to read at most.

    Returns:
        The file written.

    Raises:
        CorpusError: There is nothing to read.
        TokenizerError: The vocabulary is too small.
    """
    texts = find_texts(inputs, pattern, max_bytes)
    tokenizer = Tokenizer.train(map(read_text, texts), vocab_size)
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(path)
    return path


@dataclass
class Encode:
    """What a worker process of `optimize` does with one file; it reads the tokenizer once."""

    tokenizer: str

    @cached_property
    def loaded(self) -> Tokenizer:
        """The tokenizer, in this process."""
        return Tokenizer.load(self.tokenizer)

    def __getstate__(self) -> dict[str, str]:
        return {"tokenizer": self.tokenizer}

    def __call__(self, path: Path) -> Iterator[Tokens]:
        """One document: the file's tokens and the end token."""
        ids = self.loaded.encode(read_text(path))
        if self.loaded.end is not None:
            ids.append(self.loaded.end)
        yield Tokens(ids, dtype="uint16" if len(self.loaded) <= 1 << 16 else "uint32")


def prepare(
    inputs: Sequence[str | Path],
    *,
    tokenizer: str | Path,
    out: str | Path,
    pattern: str = "*.py",
    max_bytes: str | int = "8MB",
    val_fraction: float = 0.05,
    workers: int | None = None,
) -> dict[str, Any]:
    """Write `out/train` and `out/val`, datasets of token shards, and a copy of the tokenizer beside them.

    A run that breaks off goes on from its finished files when it is started again.

    Args:
        inputs: Files or folders; each file is one document.
        tokenizer: A `tokenizer.json`.
        out: The folder to write.
        pattern: Which files of a folder to read.
        max_bytes: How much text to read at most.
        val_fraction: Share of the files held out for validation, above 0 and below 1.
        workers: Processes that encode; None is one per core, 0 encodes in this one.

    Returns:
        Files and tokens of both parts and the vocabulary's size.

    Raises:
        CorpusError: There is too little to read.
        TokenizerError: The tokenizer cannot be read.
        DataError: The datasets cannot be written, or are there already.
    """
    if not 0 < val_fraction < 1:
        raise CorpusError(f"val_fraction={val_fraction}: must be above 0 and below 1")
    loaded = Tokenizer.load(tokenizer)
    if loaded.end is None:
        raise TokenizerError(f"{tokenizer} has no <|endoftext|>, so documents could not be told apart")
    texts = find_texts(inputs, pattern, max_bytes)
    held_out = max(1, round(len(texts) * val_fraction))
    if held_out >= len(texts):
        raise CorpusError(f"{len(texts)} file is too few: one is held out for validation, so give at least 2")
    folder = Path(out)
    if (folder / "train" / "index.json").exists():
        raise DatasetExistsError(f"{folder} is prepared already: choose another folder, or remove it first")
    encode = Encode(str(Path(tokenizer).resolve()))
    result: dict[str, Any] = {"vocab": len(loaded)}
    # The training part comes last: a folder that has it is whole.
    for part, files in {"val": texts[:held_out], "train": texts[held_out:]}.items():
        snapshot = optimize(encode, files, folder / part, num_workers=workers, mode="overwrite")
        result[part] = {"files": len(files), "tokens": snapshot.tokens(snapshot.schema.columns[0].name)}
    loaded.save(folder / "tokenizer.json")
    return result


def open_tokens(data: str | Path, part: str, block_size: int, **options: Any) -> TokenDataset:
    """The blocks of one part of a prepared folder, shuffled; options are `TokenDataset`'s.

    The held-out part is shuffled too, so that its first blocks are a fair sample of all its documents.

    Raises:
        DataError: There is no such dataset, or too few tokens for one block.
    """
    return TokenDataset(Path(data) / part, block_size, shuffle=True, **options)
