"""The tokenizer in a GGUF file's metadata, read and written.

GGUF names the algorithm (`tokenizer.ggml.model`: byte-level BPE is "gpt2", sentencepiece BPE "llama", unigram
"t5") and, for BPE, how text is cut before merging (`tokenizer.ggml.pre`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from blixt.llm.errors import TokenizerError
from blixt.llm.tokenizer import Tokenizer, TokenizerFacts
from blixt.llm.tokenizer_spm import BPE, BYTE, CONTROL, NORMAL, UNIGRAM, USER_DEFINED, Pieces, build
from blixt.llm.tokenizer_text import add_tokens

KEY = "tokenizer.ggml."
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CL100K = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + _TAIL
_QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + _TAIL
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_WORDS = (
    r"[^\r\n\p{L}\p{N}]?"
    + _UPPER
    + "*"
    + _LOWER
    + "+{c}|"
    + r"[^\r\n\p{L}\p{N}]?"
    + _UPPER
    + "+"
    + _LOWER
    + "*{c}"
)
_SLASHED = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_O200K = _WORDS.replace("{c}", _CONTRACTIONS + "?") + r"|\p{N}{1,3}|" + _SLASHED
_TEKKEN = _WORDS.replace("{c}", "") + r"|\p{N}|" + _SLASHED
_DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# How text is cut, by the format's names: patterns applied one after the other.
PATTERNS: Mapping[str, tuple[str, ...]] = (
    dict.fromkeys(("default", "gpt-2", "phi-2", "olmo", "jais", "mpt"), (_GPT2,))
    | dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe", "chatglm-bpe", "glm4", "granite-4"),
        (_CL100K,),
    )
    | dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan"), (_QWEN2,))
    | dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell"), (r"\p{N}", _GPT2))
    | dict.fromkeys(("gpt-4o", "llama4", "o200k"), (_O200K,))
    | {
        "tekken": (_TEKKEN,),
        "falcon": (r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, r"[0-9][0-9][0-9]"),
        "deepseek-v3": (r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", _DEEPSEEK),
    }
)
# Vocabularies made of composed characters (NFC).
COMPOSED = frozenset({"qwen2", "deepseek-r1-qwen"})
# Words that are whole tokens are taken as they are, whatever the merges say.
WHOLE_WORDS = frozenset({"llama-bpe", "llama3", "llama-v3", "tekken", "gpt-4o", "llama4"})


def tokenizer_of(metadata: Mapping[str, Any], path: Path) -> tuple[tokenizers.Tokenizer, TokenizerFacts]:
    """The vocabulary and facts of a GGUF file's metadata.

    Args:
        metadata: Keys and values as the file has them.
        path: For messages.

    Raises:
        TokenizerError: There is no tokenizer in it, or one of a kind that is not known.
    """
    kind = metadata.get(KEY + "model")
    if kind is None:
        raise TokenizerError(f"{path} holds no tokenizer: {KEY}model is missing")
    if kind == "gpt2":
        inner = _byte_level(metadata, path)
    elif kind in ("llama", "t5"):
        inner = build(_pieces(metadata, BPE if kind == "llama" else UNIGRAM))
    else:
        raise TokenizerError(f"{path}: {KEY}model={kind!r} is not known: gpt2, llama and t5 are")
    return inner, _facts(metadata, inner, adds_bos=kind == "llama")


def _byte_level(metadata: Mapping[str, Any], path: Path) -> tokenizers.Tokenizer:
    pre = str(metadata.get(KEY + "pre", "default"))
    if pre not in PATTERNS:
        raise TokenizerError(f"{path}: {KEY}pre={pre!r} is not known: {', '.join(PATTERNS)} are")
    tokens: list[str] = metadata[KEY + "tokens"]
    vocab = {token: index for index, token in enumerate(tokens)}
    merges = [_pair(merge) for merge in metadata[KEY + "merges"]]
    inner = tokenizers.Tokenizer(models.BPE(vocab, merges, ignore_merges=pre in WHOLE_WORDS))
    cuts: list[Any] = [
        pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated") for pattern in PATTERNS[pre]
    ]
    prefix = bool(metadata.get(KEY + "add_space_prefix", False))
    cuts.append(pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False))
    inner.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    if pre in COMPOSED:
        inner.normalizer = normalizers.NFC()
    inner.decoder = decoders.ByteLevel()
    kinds: list[int] = metadata.get(KEY + "token_type") or [NORMAL] * len(tokens)
    for wanted, special in ((USER_DEFINED, False), (CONTROL, True)):
        texts = [token for token, kind in zip(tokens, kinds, strict=True) if kind == wanted]
        added = [tokenizers.AddedToken(text, special=special, normalized=False) for text in texts]
        add_tokens(inner, added, special)
    return inner


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    return left, right


def _pieces(metadata: Mapping[str, Any], model: int) -> Pieces:
    tokens: list[str] = metadata[KEY + "tokens"]
    return Pieces(
        texts=tokens,
        scores=metadata.get(KEY + "scores") or [0.0] * len(tokens),
        kinds=metadata.get(KEY + "token_type") or [NORMAL] * len(tokens),
        model=model,
        dummy_prefix=bool(metadata.get(KEY + "add_space_prefix", True)),
        collapse=bool(metadata.get(KEY + "remove_extra_whitespaces", False)),
        charsmap=bytes(metadata.get(KEY + "precompiled_charsmap") or b""),
    )


def _facts(metadata: Mapping[str, Any], inner: tokenizers.Tokenizer, adds_bos: bool) -> TokenizerFacts:
    names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    ids = {name: metadata.get(f"{KEY}{key}_token_id") for key, name in names.items()}
    specials = {name: inner.id_to_token(token) for name, token in ids.items() if token is not None}
    ends = [metadata.get(f"{KEY}{key}_token_id") for key in ("eos", "eot", "eom")]
    templates = (
        {"default": metadata["tokenizer.chat_template"]} if "tokenizer.chat_template" in metadata else {}
    )
    for key, value in metadata.items():
        if key.startswith("tokenizer.chat_template."):
            templates[key.removeprefix("tokenizer.chat_template.")] = value
    bos = ids["bos_token"]
    return TokenizerFacts(
        bos=bos,
        eos=tuple(dict.fromkeys(end for end in ends if end is not None)),
        adds_bos=bos is not None and bool(metadata.get(KEY + "add_bos_token", adds_bos)),
        specials={name: text for name, text in specials.items() if text},
        templates=templates,
    )


def metadata_of(tokenizer: Tokenizer) -> dict[str, Any]:
    """A tokenizer as GGUF metadata; `tokenizer_of` reads it back.

    Raises:
        TokenizerError: It is no BPE, or cuts text in a way that GGUF has no name for.
    """
    described: dict[str, Any] = json.loads(tokenizer.inner.to_str())
    model = described["model"]
    if model["type"] != "BPE":
        raise TokenizerError(f"a {model['type']} vocabulary cannot be written to GGUF: BPE can")
    tokens = [tokenizer.inner.id_to_token(index) or f"[PAD{index}]" for index in range(len(tokenizer))]
    added = tokenizer.inner.get_added_tokens_decoder()
    kinds = [NORMAL] * len(tokens)
    for index, token in added.items():
        kinds[index] = CONTROL if token.special else USER_DEFINED
    facts = tokenizer.facts
    out: dict[str, Any] = {KEY + "tokens": tokens, KEY + "token_type": kinds}
    decoder: dict[str, Any] = described["decoder"] or {}
    if decoder.get("type") == "ByteLevel":
        out |= {KEY + "model": "gpt2", KEY + "pre": _name_of(described["pre_tokenizer"])}
        out[KEY + "merges"] = [
            merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]
        ]
    else:
        out |= _sentencepiece_metadata(described, tokens, kinds)
    named = {"bos": facts.bos, "eos": tokenizer.end, "eot": facts.eos[1] if len(facts.eos) > 1 else None}
    out |= {f"{KEY}{name}_token_id": token for name, token in named.items() if token is not None}
    out[KEY + "add_bos_token"] = facts.adds_bos
    for name, text in facts.templates.items():
        out["tokenizer.chat_template" + ("" if name == "default" else f".{name}")] = text
    return out


def _sentencepiece_metadata(
    described: Mapping[str, Any], tokens: list[str], kinds: list[int]
) -> dict[str, Any]:
    """Scores that order the pieces as the merges do."""
    rank: dict[str, int] = {}
    for index, merge in enumerate(described["model"]["merges"]):
        rank.setdefault("".join(merge.split(" ") if isinstance(merge, str) else merge), index)
    for index, token in enumerate(tokens):
        if kinds[index] == NORMAL and len(token) == 6 and token.startswith("<0x"):
            kinds[index] = BYTE
    last = len(rank)
    normalizer: dict[str, Any] = described["normalizer"] or {}
    steps: list[dict[str, Any]] = normalizer.get("normalizers", [])
    return {
        KEY + "model": "llama",
        KEY + "scores": [-float(rank.get(token, last)) for token in tokens],
        KEY + "add_space_prefix": any(step["type"] == "Prepend" for step in steps),
    }


def _name_of(pre_tokenizer: Mapping[str, Any] | None) -> str:
    """GGUF's name for a way of cutting text."""
    steps = (pre_tokenizer or {}).get("pretokenizers") or [pre_tokenizer or {}]
    patterns: list[str] = []
    for step in steps:
        if step.get("type") == "Split":
            patterns.append(step["pattern"].get("Regex") or step["pattern"].get("String"))
        elif step.get("type") == "Digits" and step.get("individual_digits"):
            patterns.append(r"\p{N}")
        elif step.get("type") == "ByteLevel" and step.get("use_regex", True):
            patterns.append(_GPT2)
    name = next((name for name, known in PATTERNS.items() if list(known) == patterns), None)
    if name is None and len(patterns) == 1:
        name = _alike(patterns[0])
    if name is None:
        raise TokenizerError(f"GGUF has no name for this way of cutting text: {patterns}")
    return name


def _alike(pattern: str) -> str | None:
    """The name of the known pattern that cuts a probing text in the same way, though written differently."""
    probe = (
        "Don't I'LL pay 12345 €  in  2026-01-02?\r\n\n\tyou'Re  naïve日本語 "
        "🎉🎉 x_1/y... HTTPServer ǅ é\n /path\n"
    )
    wanted = pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated").pre_tokenize_str(probe)
    for name, known in PATTERNS.items():
        if len(known) == 1:
            cut = pre_tokenizers.Split(tokenizers.Regex(known[0]), "isolated").pre_tokenize_str(probe)
            if cut == wanted:
                return name
    return None
