from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt.llm.api import LLM, Completion
from blixt.llm.errors import PromptError
from blixt.llm.model import GPT
from blixt.llm.sampling import Sampling, choose, generate_tokens, stream_steps
from blixt.llm.tokenizer import Tokenizer

GREEDY = Sampling(temperature=0)


def test_greedy_generation_with_the_cache_equals_argmax_without_it(model: GPT) -> None:
    prompt = [5, 90, 33, 70]
    expected = list(prompt)
    for _ in range(20):
        expected.append(int(model(torch.tensor([expected]))[0, -1].argmax()))
    assert list(generate_tokens(model, prompt, Sampling(temperature=0, max_tokens=20))) == expected[4:]


def test_a_seed_repeats_the_draw_and_another_seed_does_not(model: GPT) -> None:
    draws = [
        list(generate_tokens(model, [5], Sampling(seed=seed, temperature=50, max_tokens=20)))
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_generation_stops_when_the_context_is_full(model: GPT, tokenizer: Tokenizer) -> None:
    prompt = tokenizer.encode("def f")
    steps = list(stream_steps(model, tokenizer, prompt, GREEDY))
    assert len(prompt) + len(steps) == model.config.context
    assert [step.finish_reason for step in steps] == [None] * (len(steps) - 1) + ["length"]


def test_the_end_token_ends_generation_and_is_counted_but_not_shown(model: GPT, tokenizer: Tokenizer) -> None:
    third = list(generate_tokens(model, tokenizer.encode("def f"), Sampling(temperature=0, max_tokens=3)))[2]
    ending = GPT(replace(model.config, eos=third)).eval()
    ending.load_state_dict(model.state_dict())
    completion = LLM(ending, tokenizer).generate("def f", temperature=0)
    shown = LLM(model, tokenizer).generate(
        "def f", temperature=0, max_tokens=completion.completion_tokens - 1
    )
    assert completion.finish_reason == "stop"
    assert completion.completion_tokens <= 3
    assert completion.text == shown.text


def test_top_k_and_top_p_draw_only_from_the_likeliest() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    generator = torch.Generator().manual_seed(0)
    drawn = {choose(logits, Sampling(top_k=2), generator) for _ in range(200)}
    assert drawn == {0, 1}
    drawn = {choose(logits, Sampling(top_p=0.75), generator) for _ in range(200)}
    assert drawn == {0, 1}
    assert {choose(logits, Sampling(top_p=0.01), generator) for _ in range(50)} == {0}


@settings(deadline=None, max_examples=25)
@given(start=st.integers(0, 15), size=st.integers(1, 6))
def test_a_stop_text_ends_generation_before_it(
    model: GPT, tokenizer: Tokenizer, start: int, size: int
) -> None:
    llm = LLM(model, tokenizer)
    whole = llm.generate("import", temperature=0, max_tokens=24).text
    word = whole[start : start + size]
    completion = Completion()
    pieces = list(llm.stream("import", completion, temperature=0, max_tokens=24, stop=word))
    assert "".join(pieces) == completion.text == whole[: whole.index(word)]
    assert completion.finish_reason == "stop"


def test_a_stop_text_that_never_comes_holds_nothing_back(model: GPT, tokenizer: Tokenizer) -> None:
    llm = LLM(model, tokenizer)
    plain = llm.generate("import", temperature=0, max_tokens=12).text
    assert llm.generate("import", temperature=0, max_tokens=12, stop=[plain[-1] + "\0"]).text == plain


def test_unknown_options_and_messages_without_text_are_refused(model: GPT, tokenizer: Tokenizer) -> None:
    llm = LLM(model, tokenizer)
    with pytest.raises(PromptError, match="temprature"):
        llm.generate("import", temprature=0)
    with pytest.raises(PromptError, match="message 1"):
        llm.chat([{"role": "user", "content": "hi"}, {"role": "user"}])


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"temperature": -1}, "temperature=-1"),
        ({"top_p": 0}, "top_p=0"),
        ({"top_k": -2}, "top_k=-2"),
        ({"stop": ("",)}, "empty text"),
    ],
)
def test_impossible_sampling_names_the_field(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(PromptError, match=sentence):
        Sampling(**fields)


def test_empty_and_too_long_prompts_are_refused(model: GPT) -> None:
    with pytest.raises(PromptError, match="empty"):
        next(generate_tokens(model, [], GREEDY))
    with pytest.raises(PromptError, match=r"64 tokens.*room for 63"):
        next(generate_tokens(model, [1] * 64, GREEDY))
