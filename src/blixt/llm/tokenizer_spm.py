"""Sentencepiece vocabularies, from `.model` files or from lists, built with the tokenizers library.

A `.model` file is a protocol buffer (`sentencepiece_model.proto`); the few fields needed are read here.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers

from blixt.llm.errors import TokenizerError
from blixt.llm.tokenizer import TokenizerFacts
from blixt.llm.tokenizer_text import add_tokens

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE = 1, 2
SPACE = "▁"


@dataclass(frozen=True)
class Pieces:
    """A sentencepiece vocabulary.

    Attributes:
        texts: The pieces, by id.
        scores: The higher, the earlier a piece is made (BPE) or the likelier it is (unigram).
        kinds: NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED or BYTE of each piece.
        model: BPE or UNIGRAM.
        dummy_prefix: Whether a text begins with a space that is not written.
        collapse: Whether several spaces count as one.
        charsmap: Sentencepiece's compiled normalisation; empty for none.
    """

    texts: Sequence[str]
    scores: Sequence[float]
    kinds: Sequence[int]
    model: int = BPE
    dummy_prefix: bool = True
    collapse: bool = False
    charsmap: bytes = b""


def build(pieces: Pieces) -> tokenizers.Tokenizer:
    """The vocabulary as a `tokenizers.Tokenizer`.

    Raises:
        TokenizerError: The model is neither BPE nor unigram.
    """
    if pieces.model == BPE:
        inner = _build_bpe(pieces)
    elif pieces.model == UNIGRAM:
        inner = _build_unigram(pieces)
    else:
        raise TokenizerError(f"sentencepiece model type {pieces.model} is neither unigram (1) nor BPE (2)")
    own = [tokenizers.AddedToken(text, normalized=False) for text in _of_kind(pieces, USER_DEFINED)]
    add_tokens(inner, own, special=False)
    special = [*_of_kind(pieces, UNKNOWN), *_of_kind(pieces, CONTROL)]
    add_tokens(inner, [tokenizers.AddedToken(text, normalized=False) for text in special], special=True)
    return inner


def _of_kind(pieces: Pieces, kind: int) -> list[str]:
    return [text for text, own in zip(pieces.texts, pieces.kinds, strict=True) if own == kind]


def _build_bpe(pieces: Pieces) -> tokenizers.Tokenizer:
    vocab = {text: index for index, text in enumerate(pieces.texts)}
    unknown = next(iter(_of_kind(pieces, UNKNOWN)), None)
    model = models.BPE(
        vocab,
        merges_of(pieces, vocab),
        unk_token=unknown,
        fuse_unk=True,
        byte_fallback=BYTE in pieces.kinds,
    )
    inner = tokenizers.Tokenizer(model)
    inner.normalizer = _normalizer(pieces)
    inner.decoder = _decoder(pieces)
    return inner


def _build_unigram(pieces: Pieces) -> tokenizers.Tokenizer:
    unknown = next((index for index, kind in enumerate(pieces.kinds) if kind == UNKNOWN), None)
    vocab = list(zip(pieces.texts, pieces.scores, strict=True))
    inner = tokenizers.Tokenizer(models.Unigram(vocab, unknown, byte_fallback=BYTE in pieces.kinds))
    inner.normalizer = _normalizer(pieces)
    inner.decoder = _decoder(pieces)
    return inner


def _normalizer(pieces: Pieces) -> normalizers.Normalizer:
    """Text before it is cut. The space in front comes after special tokens, too, as in Llama 2's files."""
    steps: list[Any] = [normalizers.Precompiled(pieces.charsmap)] if pieces.charsmap else []
    if pieces.collapse:
        steps += [normalizers.Strip(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    if pieces.dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])


def _decoder(pieces: Pieces) -> decoders.Decoder:
    steps: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if pieces.dummy_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)


def merges_of(pieces: Pieces, vocab: Mapping[str, int]) -> list[tuple[str, str]]:
    """The pairs that make up each piece, in the order of the pieces' scores."""
    ranked: list[tuple[float, int, int, str, str]] = []
    for index, (text, score, kind) in enumerate(zip(pieces.texts, pieces.scores, pieces.kinds, strict=True)):
        if kind not in (NORMAL, USER_DEFINED):
            continue
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in vocab and right in vocab:
                ranked.append((-score, index, cut, left, right))
    ranked.sort(key=lambda pair: pair[:3])
    return [(left, right) for _, _, _, left, right in ranked]


def read_model(path: Path) -> tuple[tokenizers.Tokenizer, TokenizerFacts]:
    """A sentencepiece `.model` file.

    Raises:
        TokenizerError: It is not one.
    """
    try:
        pieces, trainer = _parse(path.read_bytes())
    except (IndexError, UnicodeDecodeError, struct.error, ValueError) as error:
        raise TokenizerError(f"{path} is not a sentencepiece model: {error}") from None
    if not pieces.texts:
        raise TokenizerError(f"{path} is not a sentencepiece model: it holds no pieces")
    bos, eos = trainer.get(41, 1), trainer.get(42, 2)
    named = {"unk_token": trainer.get(40, 0), "bos_token": bos, "eos_token": eos}
    specials = {name: pieces.texts[at] for name, at in named.items() if 0 <= at < len(pieces.texts)}
    facts = TokenizerFacts(
        bos=bos if "bos_token" in specials else None,
        eos=(eos,) if "eos_token" in specials else (),
        adds_bos="bos_token" in specials,
        specials=specials,
    )
    return build(pieces), facts


def _parse(data: bytes) -> tuple[Pieces, dict[int, int]]:
    """The pieces, and the trainer's numbers by field."""
    texts: list[str] = []
    scores: list[float] = []
    kinds: list[int] = []
    trainer: dict[int, int] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            piece = dict(_fields(value))
            texts.append(piece[1].decode())
            scores.append(struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0)
            kinds.append(piece.get(3, NORMAL))
        elif number == 2 and isinstance(value, bytes):
            trainer = {key: _signed(field) for key, field in _fields(value) if isinstance(field, int)}
        elif number == 3 and isinstance(value, bytes):
            normalizer = dict(_fields(value))
    return Pieces(
        texts=texts,
        scores=scores,
        kinds=kinds,
        model=trainer.get(3, UNIGRAM),
        dummy_prefix=bool(normalizer.get(3, 1)),
        collapse=bool(normalizer.get(4, 1)),
        charsmap=normalizer.get(2, b""),
    ), trainer


def _signed(value: int) -> int:
    """Negative int32 fields are written as 64-bit two's complement."""
    return value - (1 << 64) if value >> 63 else value


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protocol buffer message: numbers, or bytes of text, floats and inner messages."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = data[at : at + size], at + size
        elif kind == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("a field is longer than the file")
            value, at = data[at : at + size], at + size
        else:
            raise ValueError(f"unknown wire type {kind}")
        yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
