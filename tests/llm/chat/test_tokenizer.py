"""Text to ids and back, and text from ids as they arrive."""

import inspect
import io
import json
import textwrap
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders

from blixt.llm.errors import TokenizerError
from blixt.llm.tokenizer import END, Detokenizer, Tokenizer

TEXT = st.text(alphabet=st.sampled_from("aé日本🎉👩\u200d👧\u0301ß \n\t<|>▁Ġ\ufffdx"), max_size=30) | st.text(
    max_size=20
)
SOURCES = [inspect.getsource(json), inspect.getsource(textwrap)]


def sentencepiece_file(folder: Path, kind: str, **options: object) -> Path:
    """A sentencepiece model with byte fallback, trained on source code."""
    model = io.BytesIO()
    lines = [line for source in SOURCES for line in source.splitlines() if line.strip()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=500,
        model_type=kind,
        byte_fallback=True,
        character_coverage=0.99,
        user_defined_symbols=["<tool>"],
        minloglevel=2,
        **options,
    )
    path = folder / f"{kind}{len(options)}.model"
    path.write_bytes(model.getvalue())
    return path


@pytest.fixture(scope="module")
def kinds(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """Byte-level BPE with added tokens, and sentencepiece with byte fallback in both its forms."""
    folder = tmp_path_factory.mktemp("models")
    bytes_ = Tokenizer(type(tokenizer.inner).from_str(tokenizer.inner.to_str()))
    bytes_.inner.add_special_tokens([AddedToken("<|im_end|>")])
    bytes_.inner.add_tokens([AddedToken("<tool_call>"), AddedToken("日本")])
    whole = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    bare = whole | {"add_dummy_prefix": False}
    other = Tokenizer(type(tokenizer.inner).from_str(tokenizer.inner.to_str()))
    other.inner.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Fuse()])
    return {
        "bytes": bytes_,
        "bpe": Tokenizer.load(sentencepiece_file(folder, "bpe", **whole)),
        "unigram": Tokenizer.load(sentencepiece_file(folder, "unigram", **bare)),
        "window": other,
    }


KINDS = st.sampled_from(["bytes", "bpe", "unigram"])


@given(st.text())
def test_any_text_survives_encoding(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(KINDS | st.just("window"), TEXT)
def test_streamed_text_equals_the_whole_and_never_shows_half_a_character(
    kinds: dict[str, Tokenizer], kind: str, text: str
) -> None:
    tokenizer = kinds[kind]
    ids = tokenizer.encode(text, bos=False)
    pieces = list(tokenizer.stream(ids))
    assert "".join(pieces) == tokenizer.decode(ids)
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)


@given(KINDS, st.lists(st.integers(0, 520), max_size=20), st.booleans())
def test_streaming_arbitrary_tokens_equals_decoding_them_at_once(
    kinds: dict[str, Tokenizer], kind: str, ids: list[int], skip_special: bool
) -> None:
    tokenizer = kinds[kind]
    assert "".join(tokenizer.stream(ids, skip_special)) == tokenizer.decode(ids, skip_special)


@given(st.lists(st.integers(0, 520), max_size=20), st.booleans())
def test_byte_level_text_equals_the_librarys(
    kinds: dict[str, Tokenizer], ids: list[int], skip_special: bool
) -> None:
    tokenizer = kinds["bytes"]
    wanted = tokenizer.inner.decode(ids, skip_special_tokens=skip_special)
    assert "".join(tokenizer.stream(ids, skip_special)) == wanted


@given(TEXT)
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_text_survives_byte_fallback_where_no_spaces_are_collapsed(
    kinds: dict[str, Tokenizer], kind: str, text: str
) -> None:
    tokenizer = kinds[kind]
    plain = text.replace("▁", "")  # sentencepiece cannot tell its own sign for a space from one
    ids = tokenizer.encode(plain, bos=False)
    assert "".join(tokenizer.stream(ids)) == plain


def test_an_incomplete_character_is_held_until_its_last_byte(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🎉")
    assert len(ids) > 1
    detokenizer = Detokenizer(tokenizer)
    assert [detokenizer.add(token) for token in ids] == [""] * (len(ids) - 1) + ["🎉"]


def test_a_character_that_never_completes_is_shown_as_such_at_the_end(tokenizer: Tokenizer) -> None:
    detokenizer = Detokenizer(tokenizer)
    first = tokenizer.encode("🎉")[0]
    assert (detokenizer.add(first), detokenizer.finish()) == ("", "\ufffd")


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("options", [{}, {"add_dummy_prefix": False, "remove_extra_whitespaces": False}])
def test_a_sentencepiece_model_reads_and_writes_as_the_library_does(
    tmp_path: Path, kind: str, options: dict[str, object]
) -> None:
    path = sentencepiece_file(tmp_path, kind, **options)
    theirs, ours = sentencepiece.SentencePieceProcessor(model_file=str(path)), Tokenizer.load(path)
    texts = ["", "Hello  world", "naïve 🎉 日本語", "ﬁ Ａ", *SOURCES[1].splitlines()[:100]]
    for text in texts:
        assert ours.encode(text, bos=False) == theirs.encode(text), text
        assert ours.decode(theirs.encode(text)) == theirs.decode(theirs.encode(text))
    assert (ours.bos, ours.eos, ours.facts.adds_bos) == (theirs.bos_id(), (theirs.eos_id(),), True)


def test_what_begins_a_text_is_added_as_the_files_say_and_never_twice(kinds: dict[str, Tokenizer]) -> None:
    tokenizer = kinds["bpe"]
    first = tokenizer.bos
    assert tokenizer.encode("a")[0] == first
    assert tokenizer.encode("<s>a").count(first) == 1  # type: ignore[arg-type] - it has one
    assert first not in tokenizer.encode("a", bos=False)
    assert kinds["bytes"].encode("a") == kinds["bytes"].encode("a", bos=False)
    with pytest.raises(TokenizerError, match="no token that begins"):
        kinds["bytes"].encode("a", bos=True)


def test_saved_tokenizer_reads_back_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.encode("def f(x):") == tokenizer.encode("def f(x):")
    assert (len(again), again.eos) == (len(tokenizer), tokenizer.eos)


def test_the_end_token_is_one_token_and_not_shown(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(END) == [tokenizer.end]
    assert tokenizer.decode(tokenizer.eos) == ""
    assert tokenizer.decode(tokenizer.eos, skip_special=False) == END


def test_an_end_token_at_the_end_of_a_text_stays(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(f"x = 1{END}") == [*tokenizer.encode("x = 1"), tokenizer.end]
    assert tokenizer.encode(f"x = 1{END}{END}")[-2:] == [tokenizer.end] * 2
    assert tokenizer.decode(tokenizer.encode(f"x = 1{END}"), skip_special=False) == f"x = 1{END}"


def test_missing_or_broken_files_and_small_vocabularies_are_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="does not exist"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match="not a tokenizer file"):
        Tokenizer.load(tmp_path)
    (tmp_path / "x.model").write_bytes(b"\x0a\xff\xff no model")
    with pytest.raises(TokenizerError, match="not a sentencepiece model"):
        Tokenizer.load(tmp_path / "x.model")
    with pytest.raises(TokenizerError, match="257"):
        Tokenizer.train(["text"], vocab_size=100)


def test_an_end_token_that_was_written_stays(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(f"a{END}")[-1] == tokenizer.end
    assert tokenizer.encode(f"a{END}{END}")[-2:] == [tokenizer.end] * 2
