"""What other libraries got wrong, and this one must not: masks, windows, names, stretched ropes, ends."""

from pathlib import Path

import pytest
import torch
from tests.llm.families.parity import gap, loaded, reference

from blixt.llm import GPT, ConfigError, Engine, EngineConfig, ModelConfig, Sampling
from blixt.llm.cache import KVCache
from blixt.llm.families import families, family_of, read_config
from blixt.llm.specs import LayerSpec
from blixt.llm.tokenizer import Tokenizer


@torch.no_grad()
def test_a_softcapped_prompt_read_through_a_cache_is_causal(lane5: Path) -> None:
    # A boolean mask added to softcapped scores, instead of hiding them, lets the prompt see its future.
    model, known = loaded(lane5 / "gemma2"), reference(lane5 / "gemma2")
    tokens, changed = known["long"], known["long"].clone()
    changed[:, -1] += 1
    first = [model(ids, KVCache(model.config, 1, model.embed.weight))[:, 0] for ids in (tokens, changed)]
    assert torch.equal(*first)
    assert gap(first[0], known["long.logits"][:, 0]) < 1e-5


@pytest.mark.parametrize("case", ["gemma2", "gemma3", "phi3", "mistral"])
@torch.no_grad()
def test_a_prompt_longer_than_the_window_is_generated_from(case: str, lane5: Path) -> None:
    model, known = loaded(lane5 / case), reference(lane5 / case)
    prompt: list[int] = known["long"][0].tolist()
    window = max(spec.window for spec in model.config.specs)
    assert len(prompt) > 4 * window
    engine = Engine(model, None, EngineConfig(max_batch=1))
    engine.add(prompt, Sampling(temperature=0, max_tokens=3, ignore_eos=True))
    answer = [token for _ in range(6) for update in engine.step() for token in update.tokens]
    assert answer[0] == known["long.logits"][0, -1].argmax().item()
    assert len(answer) == 3


@pytest.mark.parametrize("window", [512, 513, 2047])
@torch.no_grad()
def test_windows_of_released_sizes_take_prompts_just_around_them(window: int) -> None:
    # Gemma 3 has 512, Phi-3-mini 2047: a ring of that size meets a prompt one longer and one shorter.
    torch.manual_seed(0)
    specs = (LayerSpec(attn="sliding", window=window), LayerSpec())
    model = GPT(ModelConfig(vocab=64, d=16, layers=2, heads=2, kv_heads=1, context=4096, layer_specs=specs))
    tokens = torch.randint(64, (1, window + 2))
    whole = model(tokens)
    for length in (window - 1, window, window + 1):
        cache = KVCache(model.config, 1, whole)
        read = model(tokens[:, :length], cache)
        step = model(tokens[:, length : length + 1], cache)
        assert gap(read, whole[:, :length]) < 1e-5
        assert gap(step, whole[:, length : length + 1]) < 1e-5


@torch.no_grad()
def test_longrope_factors_are_those_of_the_sequence_length(lane5: Path) -> None:
    # Leaving them out goes unnoticed until a prompt is longer than the original context.
    model, known = loaded(lane5 / "phi3-longrope"), reference(lane5 / "phi3-longrope")
    tokens = known["long"]
    assert gap(model(tokens), known["long.logits"]) < 1e-5
    assert gap(model(tokens[:, :10])[0, 5], known["long.logits"][0, 5]) > 1e-3, "short and long differ"


def test_nothing_depends_on_what_a_model_or_its_folder_is_called(lane5: Path) -> None:
    for case in ("gemma2", "olmo", "qwen3"):
        data = family_of(loaded(lane5 / case).config.model_type).write(loaded(lane5 / case).config)
        for name in ("Gemma-OLMo-Llama", "my-model", ""):
            assert read_config({**data, "_name_or_path": name, "name_or_path": name}) == read_config(data)


def test_renaming_the_model_type_of_a_config_is_refused_or_changes_nothing_else(lane5: Path) -> None:
    config = loaded(lane5 / "gemma2").config
    with pytest.raises(ConfigError, match="model type 'llama' cannot say this"):
        family_of("llama").write(config)


def test_no_model_keeps_a_buffer_over_pairs_of_positions() -> None:
    config = ModelConfig(
        vocab=64, d=16, layers=2, heads=2, kv_heads=1, context=131_072, layer_specs=(LayerSpec(), LayerSpec())
    )
    assert sum(buffer.numel() for buffer in GPT(config).buffers()) == 0


def test_every_family_is_listed_once() -> None:
    assert len(families()) == len(set(families())) >= 30


def test_the_end_that_a_text_has_is_kept_and_none_is_added(tokenizer: Tokenizer) -> None:
    (end,) = tokenizer.eos
    plain = tokenizer.encode("import json")
    assert end not in plain
    assert tokenizer.encode("import json" + tokenizer.decode([end], skip_special=False)) == [*plain, end]
