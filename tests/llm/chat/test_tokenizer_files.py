"""What stands beside the vocabulary: special tokens, ends of turns, templates; and GGUF."""

import json
from pathlib import Path
from typing import Any

import pytest

from blixt.llm.errors import TokenizerError
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.tokenizer_gguf import metadata_of, tokenizer_of

TEXTS = [
    "",
    "Hello  world\n",
    "naïve 🎉 日本語 ok",
    "def f(x):\n\treturn x ** 2  # 123456",
    "e\u0301\u200d",
    "DON'T you'll",
    "\r\n\r\n x",
    "👩\u200d👩\u200d👧",
    "x" * 50,
    "<|im_start|>user\nhi<|im_end|>",
]


@pytest.fixture
def folder(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    tokenizer.inner.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def write(folder: Path, **files: Any) -> None:
    for name, data in files.items():
        (folder / f"{name}.json").write_text(json.dumps(data))


def test_tokens_of_the_older_config_are_added_with_their_ids(folder: Path, tokenizer: Tokenizer) -> None:
    size = len(tokenizer)
    listed = {
        str(size + 1): {"content": "<b>", "special": False},
        str(size): {"content": "<|im_end|>", "special": True},
    }
    write(folder, tokenizer_config={"added_tokens_decoder": listed, "eos_token": {"content": "<|im_end|>"}})
    loaded = Tokenizer.load(folder)
    assert loaded.encode("<|im_end|><b>") == [size, size + 1]
    assert loaded.decode([size, size + 1]) == "<b>"
    assert loaded.eos == (size,)


def test_the_newer_config_names_a_backend_and_is_read_the_same(folder: Path) -> None:
    config = {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers", "eos_token": "<|endoftext|>"}
    write(folder, tokenizer_config=config | {"extra_special_tokens": {"image_token": "<image>"}})
    loaded = Tokenizer.load(folder)
    assert loaded.eos == (0,)
    assert loaded.facts.specials["image_token"] == "<image>"
    assert len(loaded.encode("<image>")) == 1


def test_every_id_that_some_file_says_ends_a_turn_ends_one(folder: Path) -> None:
    write(
        folder,
        tokenizer_config={"eos_token": "<|endoftext|>"},
        special_tokens_map={"bos_token": {"content": "<s>"}},
        added_tokens={"<s>": 512},
        generation_config={"eos_token_id": [7, 8]},
        config={"eos_token_id": 8, "text_config": {"eos_token_id": 9}},
    )
    loaded = Tokenizer.load(folder)
    assert loaded.eos == (0, 7, 8, 9)
    assert loaded.end == 0
    assert loaded.bos == 512
    assert not loaded.facts.adds_bos


def test_add_bos_token_of_the_config_decides(folder: Path) -> None:
    write(folder, tokenizer_config={"bos_token": "<|endoftext|>", "add_bos_token": True})
    assert Tokenizer.load(folder).encode("a")[0] == 0


@pytest.mark.parametrize("form", ["text", "list", "file", "folder"])
def test_templates_are_found_wherever_they_are_written(folder: Path, form: str) -> None:
    if form == "text":
        write(folder, tokenizer_config={"chat_template": "one"})
    elif form == "list":
        entries = [{"name": "default", "template": "one"}, {"name": "tool_use", "template": "two"}]
        write(folder, tokenizer_config={"chat_template": entries})
    else:
        write(folder, tokenizer_config={"chat_template": "older"})
        (folder / "chat_template.jinja").write_text("one")
    if form == "folder":
        (folder / "additional_chat_templates").mkdir()
        (folder / "additional_chat_templates" / "tool_use.jinja").write_text("two")
    template = Tokenizer.load(folder).template
    assert template is not None
    user = [{"role": "user", "content": "x"}]
    assert template.render(user) == "one"
    if form in ("list", "folder"):
        assert template.render(user, tools=[{"type": "function"}]) == "two"


def test_a_saved_folder_keeps_special_tokens_ends_and_templates(folder: Path, tmp_path: Path) -> None:
    write(
        folder,
        tokenizer_config={"eos_token": "<|endoftext|>", "chat_template": "t"},
        config={"eos_token_id": 5},
    )
    loaded = Tokenizer.load(folder)
    out = tmp_path / "out"
    out.mkdir()
    loaded.save(out)
    again = Tokenizer.load(out)
    assert (again.eos, again.facts.templates) == ((0, 5), {"default": "t"})


def test_gguf_metadata_reads_back_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    inner, facts = tokenizer_of(metadata_of(tokenizer), tmp_path)
    again = Tokenizer(inner, facts)
    for text in TEXTS:
        assert again.encode(text) == tokenizer.encode(text), text
    assert again.eos == tokenizer.eos


def test_gguf_metadata_of_an_unknown_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="holds no tokenizer"):
        tokenizer_of({}, tmp_path)
    with pytest.raises(TokenizerError, match="'rwkv'"):
        tokenizer_of({"tokenizer.ggml.model": "rwkv"}, tmp_path)
    with pytest.raises(TokenizerError, match="'runes'"):
        tokenizer_of({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "runes"}, tmp_path)


def test_a_broken_config_is_named(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("[1")
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json is not JSON"):
        Tokenizer.load(folder)
