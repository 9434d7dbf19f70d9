"""The files around a vocabulary: special tokens, ends of turns and chat templates, read and written.

Both generations of `tokenizer_config.json` say the same: the older one lists added tokens by id
(`added_tokens_decoder`), the newer one names a `TokenizersBackend`. The class that either names is not looked
at; the vocabulary in `tokenizer.json` says all.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import tokenizers

from blixt.llm.errors import TokenizerError
from blixt.llm.tokenizer import END, TokenizerFacts, id_or_none
from blixt.llm.tokenizer_text import add_tokens

Read = tuple[tokenizers.Tokenizer, TokenizerFacts]
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")


def read(path: Path) -> Read:
    """A vocabulary and what the files beside it say.

    Raises:
        TokenizerError: There is none, or it is not a tokenizer file.
    """
    if path.is_dir():
        found = next((path / name for name in VOCABULARIES if (path / name).is_file()), None)
        if found is None:
            ggufs = sorted(path.glob("*.gguf"))
            if len(ggufs) != 1:
                raise TokenizerError(
                    f"{path / VOCABULARIES[0]} does not exist: train one with `blixt llm train-tokenizer`"
                )
            found = ggufs[0]
        return _read_vocabulary(found, beside=path)
    if not path.is_file():
        raise TokenizerError(f"{path} does not exist: train one with `blixt llm train-tokenizer`")
    return _read_vocabulary(path, beside=None)


def write(inner: tokenizers.Tokenizer, facts: TokenizerFacts, path: Path) -> None:
    """Write a vocabulary to a file, or with all that is known into a directory."""
    if not path.is_dir():
        inner.save(str(path))
        return
    inner.save(str(path / "tokenizer.json"))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **facts.specials,
    }
    if facts.bos is not None:
        config["add_bos_token"] = facts.adds_bos
    templates = dict(facts.templates)
    if templates.keys() == {"default"}:
        config["chat_template"] = templates["default"]
    elif templates:
        config["chat_template"] = [{"name": name, "template": text} for name, text in templates.items()]
    _write_json(path / "tokenizer_config.json", config)
    generation = path / "generation_config.json"
    if len(facts.eos) > 1 and not generation.exists():
        _write_json(generation, {"eos_token_id": list(facts.eos)})


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_vocabulary(path: Path, beside: Path | None) -> Read:
    if path.suffix == ".gguf":
        from blixt.llm.tokenizer_gguf import tokenizer_of
        from blixt.llm.weights.gguf import read_metadata

        return tokenizer_of(read_metadata(path), path)
    if path.suffix == ".model":
        from blixt.llm.tokenizer_spm import read_model

        inner, facts = read_model(path)
    else:
        inner, facts = _read_json_vocabulary(path), TokenizerFacts()
    return (inner, _bare_facts(inner, facts)) if beside is None else _with_files(inner, facts, beside)


def _read_json_vocabulary(path: Path) -> tokenizers.Tokenizer:
    try:
        inner = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for a file it cannot read
        raise TokenizerError(f"{path} is not a tokenizer file: {error}") from None
    inner.no_padding()
    inner.no_truncation()
    return inner


def _bare_facts(inner: tokenizers.Tokenizer, facts: TokenizerFacts) -> TokenizerFacts:
    """Facts of a vocabulary that lies alone."""
    if facts.eos:
        return facts
    from blixt.llm.tokenizer import Tokenizer

    return Tokenizer(inner).facts


def _with_files(inner: tokenizers.Tokenizer, known: TokenizerFacts, folder: Path) -> Read:
    config = read_json(folder / "tokenizer_config.json")
    specials = dict(known.specials) | _specials(read_json(folder / "special_tokens_map.json"))
    specials |= _specials(config)
    _add_tokens(inner, config, read_json(folder / "added_tokens.json"), specials)
    bos = id_or_none(inner, specials.get("bos_token"))
    explicit = config.get("add_bos_token")
    first = inner.encode("a", add_special_tokens=True).ids[:1]
    adds_bos = bos is not None and (first == [bos] if explicit is None else bool(explicit))
    if explicit is None and known.adds_bos and not config:
        adds_bos = True
    facts = TokenizerFacts(
        bos=bos if bos is not None else known.bos,
        eos=_ends(inner, folder, specials) or known.eos,
        adds_bos=adds_bos,
        specials=specials,
        templates=_templates(folder, config),
    )
    return inner, facts


def _ends(inner: tokenizers.Tokenizer, folder: Path, specials: Mapping[str, str]) -> tuple[int, ...]:
    """Every id that some file says ends a turn; the tokenizer's own first."""
    named = id_or_none(inner, specials.get("eos_token"))
    ids: list[int] = [] if named is None else [named]
    config = read_json(folder / "config.json")
    for source in (
        read_json(folder / "generation_config.json"),
        config,
        cast("dict[str, Any]", config.get("text_config") or {}),
    ):
        value = source.get("eos_token_id")
        ids += [value] if isinstance(value, int) else value or []
    if not ids and (end := inner.token_to_id(END)) is not None:
        ids = [end]
    return tuple(dict.fromkeys(ids))


def _specials(source: Mapping[str, Any]) -> dict[str, str]:
    """Special tokens by name; files write them as text or as an object with a `content`."""
    found: dict[str, str] = {}
    extra = source.get("extra_special_tokens")
    named = {name: source.get(name) for name in NAMED}
    if isinstance(extra, dict):
        named |= cast("dict[str, Any]", extra)
    for name, value in named.items():
        text = cast("dict[str, Any]", value).get("content") if isinstance(value, dict) else value
        if isinstance(text, str) and text:
            found[name] = text
    return found


def _add_tokens(
    inner: tokenizers.Tokenizer,
    config: Mapping[str, Any],
    plain: Mapping[str, Any],
    specials: Mapping[str, str],
) -> None:
    """Add what `tokenizer.json` does not list: in the order of their ids, so that they get them."""
    known = inner.get_added_tokens_decoder()
    listed = cast("dict[str, dict[str, Any]]", config.get("added_tokens_decoder") or {})
    new: dict[int, tokenizers.AddedToken] = {}
    for token, fields in listed.items():
        if int(token) not in known:
            flags = {key: bool(fields.get(key)) for key in ("lstrip", "rstrip", "single_word", "normalized")}
            new[int(token)] = tokenizers.AddedToken(
                fields["content"], special=bool(fields.get("special")), **flags
            )
    for text, token in plain.items():
        if token not in known and token not in new and inner.token_to_id(text) != token:
            new[token] = tokenizers.AddedToken(text, normalized=False)
    for token in sorted(new):
        add_tokens(inner, [new[token]], special=False)
    have = {added.content for added in inner.get_added_tokens_decoder().values() if added.special}
    missing = [text for text in dict.fromkeys(specials.values()) if text not in have]
    add_tokens(inner, missing, special=True)


def _templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Chat templates by name, wherever they are written."""
    templates: dict[str, str] = {}
    written: Any = config.get("chat_template")
    if isinstance(written, str):
        templates["default"] = written
    elif isinstance(written, list):
        for entry in cast("list[dict[str, str]]", written):
            templates[entry["name"]] = entry["template"]
    for name, path in _template_files(folder):
        templates[name] = path.read_text(encoding="utf-8")
    return templates


def _template_files(folder: Path) -> Iterator[tuple[str, Path]]:
    if (folder / "chat_template.jinja").is_file():
        yield "default", folder / "chat_template.jinja"
    for path in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        yield path.stem, path


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is no such file.

    Raises:
        TokenizerError: The file holds something else.
    """
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenizerError(f"{path} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise TokenizerError(f"{path} holds no JSON object")
    return cast("dict[str, Any]", data)
