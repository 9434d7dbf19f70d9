import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt.llm.errors import TokenizerError
from blixt.llm.tokenizer import END, Detokenizer, Tokenizer


@given(st.text())
def test_any_text_survives_encoding(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text(alphabet="aé日🎉 \n", max_size=40))
def test_streamed_text_equals_the_whole_and_never_shows_half_a_character(
    tokenizer: Tokenizer, text: str
) -> None:
    pieces = list(tokenizer.stream(tokenizer.encode(text)))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


@given(st.lists(st.integers(min_value=1, max_value=511), max_size=30))
def test_streaming_arbitrary_tokens_equals_decoding_them_at_once(
    tokenizer: Tokenizer, ids: list[int]
) -> None:
    assert "".join(tokenizer.stream(ids)) == tokenizer.decode(ids)


def test_an_incomplete_character_is_held_until_its_last_byte(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🎉")
    assert len(ids) > 1
    detokenizer = Detokenizer(tokenizer)
    assert [detokenizer.add(token) for token in ids] == [""] * (len(ids) - 1) + ["🎉"]


def test_saved_tokenizer_reads_back_the_same(tokenizer: Tokenizer, tmp_path) -> None:
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.encode("def f(x):") == tokenizer.encode("def f(x):")
    assert (len(again), again.eos) == (len(tokenizer), tokenizer.eos)


def test_the_end_token_is_one_token_and_not_shown(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(END) == [tokenizer.eos]
    assert tokenizer.decode([tokenizer.eos]) == ""


def test_missing_or_broken_files_and_small_vocabularies_are_named(tmp_path) -> None:
    with pytest.raises(TokenizerError, match="does not exist"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match="not a tokenizer file"):
        Tokenizer.load(tmp_path)
    with pytest.raises(TokenizerError, match="257"):
        Tokenizer.train(["text"], vocab_size=100)
