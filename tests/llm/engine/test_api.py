from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt.llm.api import LLM, Completion
from blixt.llm.errors import PromptError
from blixt.llm.model import GPT


def tokens(llm: LLM, prompt: Sequence[int], **options: object) -> list[int]:
    return llm.generate(prompt, **options).tokens


def test_greedy_generation_with_the_cache_equals_argmax_without_it(llm: LLM) -> None:
    prompt = [5, 90, 33, 70]
    expected = list(prompt)
    for _ in range(20):
        expected.append(int(llm.model(torch.tensor([expected]))[0, -1].argmax()))
    assert tokens(llm, prompt, temperature=0, max_tokens=20) == expected[4:]


def test_a_seed_repeats_the_draw_and_another_seed_does_not(llm: LLM) -> None:
    draws = [tokens(llm, [5], seed=seed, temperature=50, max_tokens=20) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_generation_stops_when_the_context_is_full(llm: LLM) -> None:
    completion = llm.generate("def f", temperature=0)
    assert completion.prompt_tokens + completion.completion_tokens == llm.model.config.context
    assert completion.finish_reason == "length"


def test_the_end_token_ends_generation_and_is_counted_but_not_shown(llm: LLM) -> None:
    third = llm.generate("def f", temperature=0, max_tokens=3).tokens[2]
    ending = GPT(replace(llm.model.config, eos=third)).eval()
    ending.load_state_dict(llm.model.state_dict())
    completion = LLM(ending, llm.tokenizer).generate("def f", temperature=0)
    shown = llm.generate("def f", temperature=0, max_tokens=completion.completion_tokens - 1)
    assert completion.finish_reason == "stop"
    assert completion.completion_tokens <= 3
    assert completion.text == shown.text


@settings(deadline=None, max_examples=25)
@given(start=st.integers(0, 15), size=st.integers(1, 6))
def test_a_stop_text_ends_generation_before_it(llm: LLM, start: int, size: int) -> None:
    whole = llm.generate("import", temperature=0, max_tokens=24).text
    word = whole[start : start + size]
    completion = Completion()
    pieces = list(llm.stream("import", completion, temperature=0, max_tokens=24, stop=word))
    assert "".join(pieces) == completion.text == whole[: whole.index(word)]
    assert completion.finish_reason == "stop"


def test_a_stop_text_that_never_comes_holds_nothing_back(llm: LLM) -> None:
    plain = llm.generate("import", temperature=0, max_tokens=12).text
    assert llm.generate("import", temperature=0, max_tokens=12, stop=[plain[-1] + "\0"]).text == plain


def test_unknown_options_and_messages_without_text_are_refused(llm: LLM) -> None:
    with pytest.raises(PromptError, match="temprature"):
        llm.generate("import", temprature=0)
    with pytest.raises(PromptError, match="message 1"):
        llm.chat([{"role": "user", "content": "hi"}, {"role": "user"}])


def test_empty_and_too_long_prompts_are_refused(llm: LLM) -> None:
    with pytest.raises(PromptError, match="empty"):
        llm.generate("")
    with pytest.raises(PromptError, match=r"64 tokens.*room for 63"):
        llm.generate([1] * 64)
