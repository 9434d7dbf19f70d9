from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt.llm.chat.template import ChatTemplate
from blixt.llm.data import Encoded, Tokenized, load_examples, pack, prompt_ids, tokenize
from blixt.llm.errors import CorpusError, TokenizerError
from blixt.llm.tokenizer import END, Tokenizer

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    + END
    + "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
CHAT = [
    {"role": "user", "content": "Hi there"},
    {"role": "assistant", "content": "Hello you"},
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "It is 4"},
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["some words to learn pieces from, again some words"], 300)


@pytest.fixture(scope="module")
def template(tokenizer: Tokenizer) -> ChatTemplate:
    return ChatTemplate(TEMPLATE, tokenizer=tokenizer)


def learned(tokenizer: Tokenizer, document: Encoded) -> str:
    return tokenizer.decode(document.ids[document.mask].tolist(), skip_special=False)


def whole(tokenizer: Tokenizer, document: Encoded) -> str:
    return tokenizer.decode(document.ids.tolist(), skip_special=False)


def made(rows: list[dict[str, Any]], tokenizer: Tokenizer, length: int = 512, **options: Any) -> Tokenized:
    return tokenize(load_examples(rows), tokenizer, length, **options)


def test_a_text_is_learned_to_its_end_token(tokenizer: Tokenizer) -> None:
    ((document,),) = made([{"text": "Once upon a time"}], tokenizer).units
    assert whole(tokenizer, document) == "Once upon a time" + END
    assert document.mask.all()


def test_of_a_chat_only_what_the_assistant_says_is_learned(
    tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    ((document,),) = made([{"messages": CHAT}], tokenizer, template=template).units
    assert whole(tokenizer, document) == template.render(CHAT, add_generation_prompt=False)
    assert learned(tokenizer, document) == f"Hello you{END}It is 4{END}"


def test_of_a_prompt_with_earlier_answers_only_the_last_is_learned(
    tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    row = {"prompt": CHAT[:3], "completion": CHAT[3:]}
    ((document,),) = made([row], tokenizer, template=template).units
    assert whole(tokenizer, document) == template.render(CHAT, add_generation_prompt=False)
    assert learned(tokenizer, document) == f"It is 4{END}"


def test_of_a_completion_the_prompt_is_read_and_not_learned(tokenizer: Tokenizer) -> None:
    row = {"prompt": "2 + 2 =", "completion": " 4"}
    ((document,),) = made([row], tokenizer).units
    assert whole(tokenizer, document) == f"2 + 2 = 4{END}"
    assert learned(tokenizer, document) == f" 4{END}"
    ((all_of_it,),) = made([row], tokenizer, learn="all").units
    assert all_of_it.mask.all()


def test_a_preference_is_a_unit_of_the_better_and_the_worse_answer(tokenizer: Tokenizer) -> None:
    (pair,) = made([{"prompt": "2 + 2 =", "chosen": " 4", "rejected": " five"}], tokenizer).units
    assert [learned(tokenizer, d) for d in pair] == [f" 4{END}", f" five{END}"]
    assert pair[0].ids[: -len(pair[0].mask.nonzero()[0])].tolist() == tokenizer.encode("2 + 2 =")


def test_judged_answers_stand_first_when_wanted_and_second_when_not(tokenizer: Tokenizer) -> None:
    rows = [{"prompt": "2 + 2 =", "completion": " 4", "label": w} for w in (True, False)]
    wanted, unwanted = made(rows, tokenizer).units
    assert [len(d.ids) > 0 for d in wanted] == [True, False]
    assert [len(d.ids) > 0 for d in unwanted] == [False, True]
    block = pack([wanted, unwanted], 64, shuffle=False).block(0, 0)
    assert sorted(set(block.documents.tolist())) == [-1, 0, 3]


@settings(deadline=None, max_examples=40)
@given(st.text(min_size=1, max_size=120), st.integers(1, 40))
def test_a_long_text_is_split_without_losing_a_target(text: str, length: int) -> None:
    tokenizer = Tokenizer.train(["abc"], 257)
    result = made([{"text": text}], tokenizer, length)
    documents = [document for (document,) in result.units]
    taught = [t for document in documents for t in document.ids[1:].tolist()]
    assert taught == [*tokenizer.encode(text), tokenizer.end][1:]
    assert all(document.slots <= length for document in documents)
    assert result.report.lost == result.report.dropped == 0
    assert result.report.split == (len(documents) > 1)


def test_an_answer_that_is_too_long_is_cut_and_counted(tokenizer: Tokenizer) -> None:
    row = {"prompt": "ab", "completion": "cdefghij"}
    ((full,),) = made([row], tokenizer).units
    result = made([row], tokenizer, full.slots - 3)
    assert result.units[0][0].ids.tolist() == full.ids[:-3].tolist()
    assert (result.report.truncated, result.report.lost) == (1, 3)
    assert "1 documents were cut (3 tokens lost)" in str(result.report)
    left = made([row], tokenizer, full.slots - 3, too_long="left")
    assert left.units[0][0].ids.tolist() == full.ids[3:].tolist()


def test_what_leaves_nothing_to_learn_is_left_out_and_counted(tokenizer: Tokenizer) -> None:
    rows = [{"prompt": "a long prompt " * 9, "completion": "b"}, {"prompt": "a", "completion": "b"}]
    result = made(rows, tokenizer, 20)
    assert (len(result.units), result.report.dropped, result.sources) == (1, 1, [1])
    assert "1 examples were left out" in str(result.report)
    with pytest.raises(CorpusError, match=r"no example is left.*max_length=20"):
        made(rows[:1], tokenizer, 20)


def test_a_pair_is_left_out_whole(tokenizer: Tokenizer) -> None:
    row = {"prompt": "a", "chosen": "b", "rejected": "c " * 50}
    short = {"prompt": "a", "chosen": "b", "rejected": "c"}
    result = made([row, short], tokenizer, 20, too_long="drop")
    assert (len(result.units), result.report.dropped) == (1, 1)


def test_too_long_can_stop_the_run_and_names_the_example(tokenizer: Tokenizer) -> None:
    with pytest.raises(CorpusError, match=r"list row 1 has .* tokens, and max_length=4"):
        made([{"prompt": "a", "completion": "something long"}], tokenizer, 4, too_long="error")


def test_the_report_counts_tokens_and_those_learned(tokenizer: Tokenizer) -> None:
    result = made([{"prompt": "2 + 2 =", "completion": " 4"}], tokenizer)
    ((document,),) = result.units
    assert result.report.tokens == len(document.ids)
    assert result.report.learned == int(document.mask.sum())
    assert str(result.report).startswith(f"1 examples, {len(document.ids)} tokens of which")


def test_a_task_gives_the_tokens_up_to_its_answer(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    plain, chat = load_examples([{"prompt": "2 + 2 =", "answer": "4"}, {"prompt": CHAT[:1], "answer": "x"}])
    assert prompt_ids(plain, tokenizer) == tokenizer.encode("2 + 2 =")  # type: ignore[arg-type]
    ids = prompt_ids(chat, tokenizer, template)  # type: ignore[arg-type]
    assert tokenizer.decode(ids, skip_special=False) == f"<user>Hi there{END}<assistant>"
    with pytest.raises(CorpusError, match="is a task without an answer"):
        tokenize([plain], tokenizer, 10)


def test_a_chat_without_a_template_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="list row 1 is a conversation and this tokenizer has no chat"):
        made([{"messages": CHAT}], tokenizer)
