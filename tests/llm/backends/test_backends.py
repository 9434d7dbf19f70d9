"""Other engines: what is said when one is missing, and llama.cpp on SmolLM2 where it is installed."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.llm.smollm2 import CONTINUATIONS, smollm2_dir, smollm2_gguf

from blixt.llm.backends import ForeignLLM, load_backend
from blixt.llm.backends.base import ForeignModel, Queue, check_prompt
from blixt.llm.config import ModelConfig
from blixt.llm.engine.grammar import Format
from blixt.llm.errors import BackendError, EngineFull, PromptError
from blixt.llm.sampling import Sampling

needs_llama_cpp = pytest.mark.skipif(
    find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed: it compiles llama.cpp"
)
needs_vllm = pytest.mark.skipif(
    find_spec("vllm") is None, reason="vLLM is not installed: its packages pin others of their own"
)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(BackendError, match=r"no backend 'tgi': choose llama\.cpp or vllm"):
        load_backend("tgi", "model")


@pytest.mark.parametrize(("name", "kind"), [("llama.cpp", "GGUF file"), ("vllm", "checkpoint directory")])
def test_a_model_that_is_not_there_is_named(tmp_path: Path, name: str, kind: str) -> None:
    with pytest.raises(BackendError, match=f"away does not exist: the .* backend loads a {kind}"):
        load_backend(name, tmp_path / "away")


@pytest.mark.skipif(find_spec("llama_cpp") is not None, reason="llama-cpp-python is installed")
def test_without_llama_cpp_the_sentence_says_what_to_install() -> None:
    with pytest.raises(BackendError, match="pip install llama-cpp-python"):
        load_backend("llama.cpp", smollm2_gguf())


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_sentence_says_what_to_install() -> None:
    with pytest.raises(BackendError, match="pip install vllm"):
        load_backend("vllm", smollm2_dir())


def test_a_model_elsewhere_has_a_configuration_but_no_weights() -> None:
    model = ForeignModel(ModelConfig(vocab=7), "llama.cpp")
    assert model.config.vocab == 7
    with pytest.raises(BackendError, match=r"llama\.cpp holds the model's weights: 'embed'"):
        model.embed  # noqa: B018 - reading it is the test


def test_prompts_are_checked_as_by_our_engine() -> None:
    check_prompt([0, 6], 4, 7)
    for prompt, sentence in (([], "empty"), ([1] * 4, "4 tokens"), ([7], "token 7 is not in")):
        with pytest.raises(PromptError, match=sentence):
            check_prompt(prompt, 4, 7)


def test_a_full_queue_refuses() -> None:
    with pytest.raises(EngineFull):
        Queue(max_waiting=3, waiting=2).check_room(2)


@pytest.fixture(scope="module")
def llama() -> Iterator[ForeignLLM]:
    llm = load_backend("llama.cpp", smollm2_gguf(), context=256, max_batch=3, threads=1)
    yield llm
    llm.engine.session.close()


@needs_llama_cpp
def test_llama_cpp_continues_as_we_do(llama: ForeignLLM) -> None:
    prompts = ["def fibonacci(n):", "Water boils at"]
    found = llama.generate(prompts, max_tokens=16, temperature=0)
    assert [one.text for one in found] == [CONTINUATIONS[prompt] for prompt in prompts]
    assert [one.finish_reason for one in found] == ["length", "length"]


@needs_llama_cpp
def test_llama_cpp_runs_more_requests_than_sequences_and_reuses_prefixes(llama: ForeignLLM) -> None:
    alone = llama.generate("Water boils at", max_tokens=8, temperature=0).tokens
    several = llama.generate(["Water boils at"] * 7, max_tokens=8, temperature=0)
    assert all(one.tokens == alone for one in several)
    assert any(one.cached_tokens for one in several)


@needs_llama_cpp
def test_llama_cpp_takes_our_formats_seeds_and_stop_texts(llama: ForeignLLM) -> None:
    format = Format.choice(["red", "green"])
    assert llama.generate("My favourite colour is ", format=format, seed=1).text in ("red", "green")
    drawn = [llama.generate("Once", max_tokens=6, seed=5, logprobs=2) for _ in range(2)]
    assert drawn[0].tokens == drawn[1].tokens
    assert len(drawn[0].logprobs) == 6
    assert "\n" not in llama.generate("def f():", max_tokens=12, temperature=0, stop="\n").text


@needs_llama_cpp
def test_llama_cpp_streams_and_forgets_who_leaves(llama: ForeignLLM) -> None:
    pieces = llama.stream("Water boils at", max_tokens=8, temperature=0)
    next(pieces)
    pieces.close()
    assert not llama.engine.has_work or llama.engine.step()[0].finish_reason == "cancelled"
    assert llama.engine.stats().running == 0


@needs_llama_cpp
def test_llama_cpp_refuses_what_it_has_not(llama: ForeignLLM) -> None:
    with pytest.raises(PromptError, match="neither adapters nor"):
        llama.engine.add([1, 2], Sampling(), adapter="x")
    with pytest.raises(BackendError, match="holds the model's weights"):
        llama.embed("text")


@pytest.fixture(scope="module")
def vllm() -> ForeignLLM:
    return load_backend("vllm", smollm2_dir(), context=256, dtype="float32", enforce_eager=True)


@needs_vllm
def test_vllm_continues_as_we_do(vllm: ForeignLLM) -> None:
    found = vllm.generate(list(CONTINUATIONS), max_tokens=16, temperature=0)
    assert [one.text for one in found] == list(CONTINUATIONS.values())
    assert [one.finish_reason for one in found] == ["length"] * 3


@needs_vllm
def test_vllm_takes_our_formats_stop_texts_and_counts(vllm: ForeignLLM) -> None:
    format = Format.choice(["red", "green"])
    assert vllm.generate("My favourite colour is ", format=format, max_tokens=9).text in ("red", "green")
    assert re.fullmatch("[0-9]{4}", vllm.generate("Year: ", format=Format.regex("[0-9]{4}")).text)
    assert "\n" not in vllm.generate("def f():", max_tokens=12, temperature=0, stop="\n").text
    several = vllm.generate("Once", n=2, max_tokens=4, temperature=1, logprobs=2, ignore_eos=True)
    assert [len(one.tokens) for one in (several, *several.alternatives)] == [4, 4]
    assert [len(one.logprobs) for one in (several, *several.alternatives)] == [4, 4]
    long = "The quick brown fox jumps over it. " * 20
    assert [vllm.generate(long, max_tokens=2).cached_tokens > 0 for _ in range(2)][1]
    stats = vllm.engine.stats()
    assert stats.prompt_tokens > 200
    assert stats.cached_tokens > 0
    assert stats.ttft.count >= stats.tpot.count > 0


@needs_vllm
def test_vllm_streams_and_forgets_who_leaves(vllm: ForeignLLM) -> None:
    pieces = vllm.stream("Water boils at", max_tokens=40, temperature=0)
    assert CONTINUATIONS["Water boils at"].startswith(next(pieces))
    pieces.close()
    while vllm.engine.has_work:
        vllm.engine.step()
    assert vllm.engine.stats().running == 0
    with pytest.raises(PromptError, match="no adapter is called 'x'"):
        vllm.engine.add([1, 2], Sampling(), adapter="x")
