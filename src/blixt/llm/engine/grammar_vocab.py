"""A tokenizer's vocabulary as the bytes of its tokens, the form that grammars are matched in."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from blixt.llm.errors import LLMError

if TYPE_CHECKING:
    from xgrammar import GrammarCompiler, VocabType

    from blixt.llm.tokenizer import Tokenizer


_CONTROL = set(range(32)) - set(b"\n\r")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A vocabulary, prepared once for all grammars.

    Attributes:
        size: Width of the model's logits.
        end_ids: Ids that end a text.
        end_mask: The bitmask row that allows only them, int32 (ceil(size / 32),).
        without_control: The bitmask row of tokens without control characters besides line breaks: JSON
            forbids them inside strings, where xgrammar lets some through.
        texts: The bytes of each token, special tokens as their names.
        ids: The id of a token that writes these bytes; special tokens are left out.
        longest: Length in bytes of the longest of them.
        compiler: xgrammar's compiler for this vocabulary.
    """

    size: int
    end_ids: tuple[int, ...]
    end_mask: Tensor
    without_control: Tensor
    texts: list[bytes]
    ids: dict[bytes, int]
    longest: int
    compiler: "GrammarCompiler"


def vocabulary_of(tokenizer: "Tokenizer", size: int, end_ids: tuple[int, ...]) -> Vocabulary:
    """Prepare a tokenizer's vocabulary.

    Args:
        tokenizer: Any that is built on the `tokenizers` library.
        size: Width of the model's logits; a model may have more than the tokenizer has tokens.
        end_ids: Ids that end a text.

    Raises:
        LLMError: xgrammar is not installed.
    """
    try:
        from xgrammar import GrammarCompiler, TokenizerInfo
    except ImportError:
        raise LLMError("structured output needs xgrammar: pip install 'blixt[llm]'") from None
    settings: dict[str, Any] = json.loads(tokenizer.inner.to_str())
    special = {token["id"] for token in settings["added_tokens"] if token["special"]}
    names = [""] * max(size, 1 + max(tokenizer.inner.get_vocab().values()))
    for name, token in tokenizer.inner.get_vocab().items():
        names[token] = name
    info = TokenizerInfo(names[:size], _kind(settings), vocab_size=size, stop_token_ids=list(end_ids))
    texts = info.decoded_vocab
    unusable = special | set(end_ids) | set(info.special_token_ids)
    ids = {text: token for token, text in reversed(list(enumerate(texts))) if text and token not in unusable}
    end_mask = _row(size, end_ids)
    without_control = _row(size, [token for token, text in enumerate(texts) if not _CONTROL & set(text)])
    longest = max((len(text) for text in ids), default=0)
    compiler = GrammarCompiler(info, max_threads=2)
    return Vocabulary(size, end_ids, end_mask, without_control, texts, ids, longest, compiler)


def _row(size: int, tokens: Iterable[int]) -> Tensor:
    """A bitmask row that allows these tokens: int32 (ceil(size / 32),)."""
    allowed = torch.zeros(-(-size // 32) * 32, dtype=torch.int64)
    allowed[list(tokens)] = 1
    words = (allowed.view(-1, 32) << torch.arange(32)).sum(1)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).int()


def _kind(settings: dict[str, Any]) -> "VocabType":
    """How the vocabulary writes bytes, read off the tokenizer's decoder."""
    from xgrammar import VocabType

    decoder: dict[str, Any] = settings.get("decoder") or {}
    steps: list[dict[str, Any]] = decoder.get("decoders") or [decoder]
    kinds = {step.get("type") for step in steps}
    if "ByteLevel" in kinds:
        return VocabType.BYTE_LEVEL
    if kinds & {"ByteFallback", "Metaspace", "Replace"}:
        return VocabType.BYTE_FALLBACK
    return VocabType.RAW
