"""One engine, several callers."""

import threading
from collections.abc import Sequence

import pytest
import torch

from blixt.llm.api import LLM, Completion
from blixt.llm.engine import EngineConfig
from blixt.llm.engine.scheduler import Slice
from blixt.llm.errors import EngineError, PromptError
from blixt.llm.model import GPT
from blixt.llm.tokenizer import Tokenizer

WORDS = ["def f", "import os", "class A:", "return", "for i in", "while True"]


def test_a_list_gives_what_each_prompt_gives_alone(llm: LLM) -> None:
    alone = [llm.generate(word, temperature=0, max_tokens=12) for word in WORDS]
    together = llm.generate(WORDS, temperature=0, max_tokens=12)
    assert [c.tokens for c in together] == [c.tokens for c in alone]
    assert [c.text for c in together] == [c.text for c in alone]


def test_prompts_may_be_ids_and_an_empty_list_has_no_answers(llm: LLM) -> None:
    ids = [llm.tokenizer.encode(word) for word in WORDS[:2]]
    assert [c.text for c in llm.generate(ids, temperature=0, max_tokens=5)] == [
        c.text for c in llm.generate(WORDS[:2], temperature=0, max_tokens=5)
    ]
    assert llm.generate([], temperature=0) == []


def test_n_answers_come_as_one_with_its_alternatives(llm: LLM) -> None:
    first = llm.generate("def f", n=3, seed=5, temperature=20, max_tokens=6)
    answers = [first, *first.alternatives]
    assert len({tuple(answer.tokens) for answer in answers}) == 3
    again = llm.generate("def f", n=3, seed=5, temperature=20, max_tokens=6)
    assert [a.tokens for a in [again, *again.alternatives]] == [a.tokens for a in answers]


def test_threads_share_the_batch_and_each_gets_its_own_answer(model: GPT, tokenizer: Tokenizer) -> None:
    llm = LLM(model, tokenizer, EngineConfig(max_batch=len(WORDS)))
    expected = [llm.generate(word, temperature=0, max_tokens=40).text for word in WORDS]
    llm.engine.reset_cache()
    before = llm.engine.stats().steps
    found: dict[str, str] = {}
    gate = threading.Barrier(len(WORDS))

    def ask(word: str) -> None:
        gate.wait()
        found[word] = "".join(llm.stream(word, temperature=0, max_tokens=40))

    threads = [threading.Thread(target=ask, args=(word,)) for word in WORDS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[word] for word in WORDS] == expected
    assert llm.engine.stats().steps - before < 40 * len(WORDS), "some steps served several threads"
    assert llm.engine.stats().blocks_used == 0


def test_a_stream_left_early_is_cancelled(llm: LLM) -> None:
    stream = llm.stream("def f", temperature=0)
    next(stream)
    assert llm.engine.has_work
    stream.close()
    assert llm.engine.stats().blocks_used == 0
    llm.engine.step()
    assert not llm.engine.has_work


def test_a_stream_that_ends_inside_another_ones_step_does_not_hang(llm: LLM) -> None:
    dropped = llm.stream("def f", temperature=0)
    next(dropped)
    run = llm.engine.runner.run

    def run_and_collect(plan: list[Slice]) -> torch.Tensor:
        dropped.close()  # what garbage collection may do at any time
        return run(plan)

    llm.engine.runner.run = run_and_collect
    try:
        assert llm.generate("import os", temperature=0, max_tokens=5).completion_tokens == 5
    finally:
        llm.engine.runner.run = run
    llm.engine.step()
    assert (llm.engine.has_work, llm.engine.stats().blocks_used) == (False, 0)


def test_a_bad_prompt_in_a_list_cancels_the_others(llm: LLM) -> None:
    with pytest.raises(PromptError, match="empty"):
        llm.generate(["def f", ""], temperature=0)
    llm.engine.step()
    assert not llm.engine.has_work


def test_more_prompts_than_the_queue_holds_enter_as_it_empties(model: GPT, tokenizer: Tokenizer) -> None:
    llm = LLM(model, tokenizer, EngineConfig(max_batch=2, max_waiting=2))
    answers = llm.generate(WORDS * 3, temperature=0, max_tokens=3)
    assert [a.tokens for a in answers[: len(WORDS)]] == [a.tokens for a in answers[-len(WORDS) :]]


def test_a_failed_request_raises_with_its_reason(
    model: GPT, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = LLM(model, tokenizer)

    def fail(plan: Sequence[object]) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(llm.engine.runner, "run", fail)
    with pytest.raises(EngineError, match="MemoryError: no room"):
        llm.generate("def f")


def test_a_stream_counts_as_it_goes(llm: LLM) -> None:
    completion = Completion()
    pieces = list(llm.stream("def f", completion, temperature=0, max_tokens=7))
    assert "".join(pieces) == completion.text
    assert (completion.completion_tokens, completion.finish_reason) == (7, "length")


def test_vectors_are_unit_means_of_the_hidden_states_and_do_not_depend_on_company(llm: LLM) -> None:
    together = llm.embed(WORDS)
    assert together.shape == (len(WORDS), llm.model.config.d)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(len(WORDS)))
    for word, vector in zip(WORDS, together, strict=True):
        torch.testing.assert_close(llm.embed(word), vector, atol=1e-5, rtol=1e-5)
    ids = torch.tensor([llm.tokenizer.encode(WORDS[1])])
    hidden = llm.model.hidden(ids)[0]
    torch.testing.assert_close(llm.embed(WORDS[1], normalize=False), hidden.mean(0), atol=1e-4, rtol=1e-4)
    last = llm.embed(WORDS[1], pooling="last", normalize=False)
    torch.testing.assert_close(last, hidden[-1], atol=1e-4, rtol=1e-4)
    with pytest.raises(PromptError, match="text 1 has 0 tokens"):
        llm.embed(["a", ""])


def test_the_benchmark_times_each_round_once(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    before = llm.engine.stats().generated_tokens
    facts = llm.bench(prompt_tokens=5, max_tokens=6, batch=2, rounds=3)
    assert llm.engine.stats().generated_tokens - before == 2 * 4 + 3 * 2 * 6  # a short warm-up, then 3 rounds
    assert facts["tokens_per_s"] == pytest.approx(12 / facts["seconds"], rel=0.5)
    assert facts["total_tokens_per_s"] > facts["tokens_per_s"]
