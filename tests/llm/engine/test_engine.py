"""The engine as a whole on the small decisive model: what a request gets back, and what it leaves behind."""

import gc
import weakref
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from blixt.llm.engine import Engine, EngineConfig, Update
from blixt.llm.errors import ConfigError, PromptError
from blixt.llm.model import GPT
from blixt.llm.sampling import Sampling
from blixt.llm.specs import LayerSpec, RopeSpec
from blixt.llm.tokenizer import Tokenizer

GREEDY = Sampling(temperature=0, max_tokens=12)


def answers(engine: Engine) -> dict[str, list[int]]:
    """Run to the end; every request's tokens."""
    found: dict[str, list[int]] = {}
    while engine.has_work:
        for update in engine.step():
            assert not update.error, update.error
            found.setdefault(update.uid, []).extend(update.tokens)
    return found


def finish(engine: Engine) -> Update:
    """Run to the end; the last update."""
    updates: list[Update] = []
    while engine.has_work:
        updates += engine.step()
    return updates[-1]


def decisive(config_of: GPT, **changes: object) -> GPT:
    """A fresh model with other settings and decisive weights."""
    torch.manual_seed(1)
    fresh = GPT(replace(config_of.config, **changes)).eval().requires_grad_(False)
    for parameter in fresh.parameters():
        if parameter.dim() > 1:
            parameter.mul_(4)
    return fresh


def without_cache(model: GPT, prompt: Sequence[int], count: int) -> list[int]:
    """Greedy tokens from the whole sequence, again for each."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("chunk", [7, 512])
def test_a_prompt_gets_logits_for_its_last_token_only(
    model: GPT, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(model, None, EngineConfig(max_tokens_per_step=chunk, speculate="off"))
    rows: list[int] = []
    whole = model.logits

    def counting(hidden: torch.Tensor) -> torch.Tensor:
        rows.append(len(hidden))
        return whole(hidden)

    monkeypatch.setattr(model, "logits", counting)
    engine.add(list(range(60)), replace(GREEDY, max_tokens=3, ignore_eos=True))
    answers(engine)
    assert rows == [1, 1, 1]


def test_answers_to_one_prompt_share_its_blocks_and_differ(model: GPT) -> None:
    engine = Engine(model, None, EngineConfig(block_size=4, prefix_cache=False))
    engine.add(list(range(20)), Sampling(n=3, temperature=20, seed=1, max_tokens=6), uid="a")
    first = engine.step()
    assert sum(pool.used for pool in engine.blocks.pools) == 4 + 3  # 16 tokens shared in 4, then one each
    found = answers(engine)
    for update in first:
        found[update.uid] = update.tokens + found[update.uid]
    assert sorted(found) == ["a.0", "a.1", "a.2"]
    assert len({tuple(tokens) for tokens in found.values()}) == 3


def test_a_seed_draws_the_same_alone_in_company_and_after_a_preemption(model: GPT) -> None:
    drawn = Sampling(temperature=3, top_p=0.9, seed=7, max_tokens=12)
    alone = Engine(model, None, EngineConfig(max_batch=1))
    alone.add([1, 2, 3], drawn, uid="a")
    expected = answers(alone)["a"]
    crowd = Engine(model, None, EngineConfig(block_size=4, blocks=8))
    crowd.add([5] * 9, replace(drawn, seed=1), uid="other")
    crowd.add([1, 2, 3], drawn, uid="a")
    assert answers(crowd)["a"] == expected
    assert crowd.stats().preemptions > 0


def test_without_a_prefix_cache_nothing_is_found_again(model: GPT) -> None:
    for cached, expected in ((True, 16), (False, 0)):
        engine = Engine(model, None, EngineConfig(block_size=4, prefix_cache=cached))
        for _ in range(2):
            engine.add(list(range(20)), GREEDY)
            update = finish(engine)
        assert update.cached_tokens == expected


def test_a_long_answer_is_found_again_as_the_beginning_of_the_next_prompt(model: GPT) -> None:
    engine = Engine(model, None, EngineConfig(block_size=4))
    uid = engine.add([1, 2, 3, 4, 5], GREEDY)
    said = answers(engine)[uid]
    engine.add([1, 2, 3, 4, 5, *said, 9], GREEDY)
    assert finish(engine).cached_tokens == 16


def test_tenants_and_changed_weights_do_not_share(model: GPT) -> None:
    engine = Engine(model, None, EngineConfig(block_size=4))
    for salt, expected in (("a", 0), ("b", 0), ("a", 16)):
        engine.add(list(range(20)), GREEDY, salt=salt)
        assert finish(engine).cached_tokens == expected
    engine.reset_cache()
    engine.add(list(range(20)), GREEDY, salt="a")
    assert finish(engine).cached_tokens == 0


def test_a_reset_in_the_middle_computes_running_requests_again(model: GPT) -> None:
    engine = Engine(model, None, EngineConfig(block_size=4))
    engine.add([1, 2, 3, 4, 5], GREEDY, uid="a")
    begun = [token for _ in range(3) for update in engine.step() for token in update.tokens]
    engine.reset_cache()
    assert begun + answers(engine)["a"] == without_cache(model, [1, 2, 3, 4, 5], 12)


def test_a_cancelled_request_says_so_and_frees_its_blocks(model: GPT) -> None:
    engine = Engine(model, None, EngineConfig(max_batch=1))
    engine.add([1, 2, 3], GREEDY, uid="running")
    engine.add([1, 2, 3], GREEDY, uid="waiting")
    engine.step()
    engine.cancel("running")
    engine.cancel("waiting")
    engine.cancel("unknown")
    assert {(u.uid, u.finish_reason) for u in engine.step()} == {
        ("running", "cancelled"),
        ("waiting", "cancelled"),
    }
    assert not engine.has_work
    assert engine.stats().blocks_used == 0


def test_cancelling_by_the_prompts_name_ends_all_its_answers(model: GPT) -> None:
    engine = Engine(model)
    engine.add([1, 2, 3], Sampling(n=3), uid="a")
    engine.step()
    engine.cancel("a")
    assert sorted(u.uid for u in engine.step()) == ["a.0", "a.1", "a.2"]
    assert not engine.has_work


class Broken(torch.nn.Module):
    """A head that fails when told to."""

    def __init__(self, head: torch.nn.Module) -> None:
        super().__init__()
        self.head = head
        self.error: BaseException | None = None

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.error is not None:
            raise self.error
        return self.head(hidden)


def test_a_step_that_fails_ends_its_requests_frees_them_and_leaves_no_prefix_behind(model: GPT) -> None:
    failing = GPT(model.config).eval()
    failing.load_state_dict(model.state_dict())
    failing.head = broken = Broken(failing.head)
    engine = Engine(failing, None, EngineConfig(block_size=4))
    broken.error = MemoryError("no room")
    engine.add(list(range(20)), GREEDY, uid="a")
    update = engine.step()[-1]
    assert (update.finish_reason, update.error) == ("error", "MemoryError: no room")
    assert engine.stats().blocks_used == 0
    broken.error = None
    engine.add(list(range(20)), GREEDY, uid="a")
    assert answers(engine)["a"] == without_cache(model, list(range(20)), 12)


def test_an_interrupt_frees_the_blocks_and_goes_on_up(model: GPT) -> None:
    failing = GPT(model.config).eval()
    failing.head = broken = Broken(failing.head)
    engine = Engine(failing)
    broken.error = KeyboardInterrupt()
    engine.add([1, 2, 3], GREEDY)
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    assert engine.stats().blocks_used == 0
    assert not engine.has_work


def test_stop_ids_end_a_request_unless_it_is_too_short_yet(model: GPT) -> None:
    third = without_cache(model, [1, 2, 3], 3)[2]
    engine = Engine(model)
    engine.add([1, 2, 3], replace(GREEDY, stop_token_ids=(third,)), uid="stops")
    engine.add([1, 2, 3], replace(GREEDY, stop_token_ids=(third,), min_tokens=6), uid="later")
    found = answers(engine)
    assert found["stops"] == without_cache(model, [1, 2, 3], 12)[: len(found["stops"])]
    assert found["stops"][-1] == third
    assert len(found["later"]) >= 6
    assert third not in found["later"][:6]


def test_end_tokens_can_be_ignored(model: GPT) -> None:
    third = without_cache(model, [1, 2, 3], 3)[2]
    ending = GPT(replace(model.config, eos=third)).eval()
    ending.load_state_dict(model.state_dict())
    engine = Engine(ending)
    engine.add([1, 2, 3], GREEDY, uid="ends")
    engine.add([1, 2, 3], replace(GREEDY, ignore_eos=True), uid="goes on")
    found = answers(engine)
    assert found["ends"][-1] == third
    assert found["goes on"] == without_cache(model, [1, 2, 3], 12)


def test_logprobs_are_those_of_the_model_whatever_the_temperature(model: GPT) -> None:
    engine = Engine(model)
    engine.add([1, 2, 3], Sampling(temperature=5, seed=0, max_tokens=4, logprobs=2, top_k=3), uid="a")
    updates: list[Update] = []
    while engine.has_work:
        updates += engine.step()
    tokens = [token for update in updates for token in update.tokens]
    scores = model(torch.tensor([[1, 2, 3, *tokens]]))[0].log_softmax(-1)
    for place, entry in enumerate(e for update in updates for e in update.logprobs):
        assert entry.token == tokens[place]
        assert entry.logprob == pytest.approx(float(scores[2 + place, entry.token]), abs=1e-4)
        assert [token for token, _ in entry.top] == scores[2 + place].topk(2).indices.tolist()


@pytest.mark.parametrize("step", [3, 64])
def test_prompt_logprobs_cover_the_prompt_also_in_chunks_and_after_a_cache_hit(model: GPT, step: int) -> None:
    engine = Engine(model, None, EngineConfig(max_tokens_per_step=step, block_size=4))
    prompt = [3, 1, 4, 1, 5, 9, 2, 6, 5]
    scores = model(torch.tensor([prompt]))[0].log_softmax(-1)
    for _ in range(2):
        engine.add(prompt, replace(GREEDY, prompt_logprobs=1, max_tokens=1))
        found = finish(engine).prompt_logprobs
        assert [entry.token for entry in found] == prompt[1:]
        for place, entry in enumerate(found):
            assert entry.logprob == pytest.approx(float(scores[place, entry.token]), abs=1e-4)


def test_a_request_that_grows_over_longropes_bound_is_computed_again(model: GPT) -> None:
    factors = {"short_factors": (1.0,) * 8, "long_factors": (3.0,) * 8}
    for rope in (
        RopeSpec(kind="longrope", original_context=16, factor=4.0, **factors),
        RopeSpec(kind="dynamic", original_context=16, factor=2.0),
    ):
        stretched = decisive(model, layer_specs=(LayerSpec(rope=rope),) * 2)
        engine = Engine(stretched, None, EngineConfig(block_size=4))
        engine.add([1, 2, 3, 4, 5, 6, 7, 8, 9], GREEDY, uid="crosses")
        engine.add(list(range(20)), GREEDY, uid="long")
        found = answers(engine)
        assert found["crosses"] == without_cache(stretched, [1, 2, 3, 4, 5, 6, 7, 8, 9], 12)
        assert found["long"] == without_cache(stretched, list(range(20)), 12)


def test_unfit_prompts_are_refused_in_one_sentence(model: GPT, tokenizer: Tokenizer) -> None:
    engine = Engine(model, tokenizer, EngineConfig(block_size=4, blocks=4))
    with pytest.raises(PromptError, match="empty"):
        engine.add([])
    with pytest.raises(PromptError, match=r"16 tokens.*context of 16 leaves room for 15"):
        engine.add([1] * 16)
    with pytest.raises(PromptError, match="prompt: token 100000 is not in the vocabulary"):
        engine.add([100_000])
    with pytest.raises(PromptError, match="logit_bias: token -1"):
        engine.add([1], Sampling(logit_bias={-1: 2.0}))
    with pytest.raises(PromptError, match="no adapter is called 'a'"):
        engine.add([1], adapter="a")
    engine.add([1], uid="x")
    with pytest.raises(PromptError, match="called 'x' already"):
        engine.add([1], uid="x")
    with pytest.raises(PromptError, match="need an engine with a tokenizer"):
        Engine(model).add([1], Sampling(stop=("a",)))


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_batch=0"):
        EngineConfig(max_batch=0)
    with pytest.raises(ConfigError, match="speculate='guess'"):
        EngineConfig(speculate="guess")


def test_the_counts_and_times_add_up(model: GPT) -> None:
    now = [0.0]
    engine = Engine(model, None, EngineConfig(block_size=4, max_batch=1), clock=lambda: now[0])
    for _ in range(2):
        engine.add(list(range(20)), GREEDY)
    while engine.has_work:
        now[0] += 1
        engine.step()
    stats = engine.stats()
    assert (stats.prompt_tokens, stats.cached_tokens, stats.generated_tokens) == (40, 16, 24)
    assert stats.finished == {"length": 2}
    assert stats.hit_rate == 0.4
    assert (stats.queue.sum_s, stats.ttft.sum_s) == (1 + 13, 1 + 13)
    assert (stats.tpot.count, stats.tpot.mean_s) == (2, 1)


def test_an_engine_is_dropped_with_its_last_reference(model: GPT) -> None:
    engine = Engine(model)
    engine.add([1, 2], GREEDY)
    finish(engine)
    watched = weakref.ref(engine)
    del engine
    gc.collect()
    assert watched() is None
