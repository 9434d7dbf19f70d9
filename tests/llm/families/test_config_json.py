"""`config.json` and `ModelConfig`: published files, both versions' forms, keys that cannot be expressed."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.llm.families.cases import CASES, cases_of
from tests.llm.families.oracle_forms import version_4
from tests.llm.families.published import PUBLISHED

from blixt.llm import ConfigError, ModelConfig
from blixt.llm.families import families, family_of, read_config, write_config
from blixt.llm.rope import attention_factor, frequencies
from blixt.llm.specs import LayerSpec, RopeSpec

LLAMA = PUBLISHED["llama-3.1-8b-instruct"]
BILLIONS = {
    "llama-3.1-8b-instruct": 8.03,
    "smollm2-135m": 0.135,
    "llama-4-scout": 107.77,
    "mistral-7b-v0.1": 7.24,
    "mixtral-8x7b": 46.70,
    "gemma-2-2b": 2.61,
    "gemma-3-4b": 3.88,
    "gemma-3-1b": 1.00,
    "phi-2": 2.78,
    "phi-3-mini-4k": 3.82,
    "phi-4-mini": 3.84,
    "qwen2.5-7b-yarn": 7.62,
    "qwen3-30b-a3b": 30.53,
    "smollm3-3b": 3.08,
    "falcon-7b": 6.92,
    "pythia-1b": 1.01,
    "gpt2": 0.124,
    "command-r7b": 8.03,
    "deepseek-v2-lite": 15.71,
    "deepseek-r1": 671.03,
    "gpt-oss-20b": 20.91,
    "granite-3.1-8b": 8.17,
}
"""Parameters as their model cards have them (text models)."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_read_and_written(name: str) -> None:
    config = read_config(PUBLISHED[name])
    assert read_config(write_config(config)) == config


@pytest.mark.parametrize("name", BILLIONS)
def test_a_published_config_has_as_many_parameters_as_its_card_says(name: str) -> None:
    assert read_config(PUBLISHED[name]).parameters() / 1e9 == pytest.approx(BILLIONS[name], rel=0.01)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "gpt2"])
def test_rotations_of_published_configs_are_those_of_transformers(name: str, more: Path) -> None:
    config, known = read_config(PUBLISHED[name]), load_file(more / name / "ropes.safetensors")
    turned = [spec for spec in config.specs if spec.rope]
    both = any(key.startswith("sliding") for key in known)
    for spec in {(s.attn if both else "full"): s for s in turned}.values():
        assert spec.rope is not None
        kind = "sliding_attention" if both and spec.attn == "sliding" else "full_attention"
        width = config.rope_width(spec)
        for length in ("short", "long"):
            ours = frequencies(spec.rope, width, long=length == "long")
            torch.testing.assert_close(ours, known[f"{kind}.{length}"], rtol=2e-6, atol=0)
            assert attention_factor(spec.rope) == pytest.approx(
                known[f"{kind}.{length}.factor"].item(), rel=1e-6
            )


@pytest.mark.parametrize("case", [name for name in cases_of(4) if CASES[name].wrapped is None])
def test_both_versions_forms_say_the_same(case: str) -> None:
    five = {**CASES[case].config(), "model_type": CASES[case].kind}
    assert read_config(version_4(five)) == read_config(five)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_key_nobody_knows_is_named_with_its_value(name: str) -> None:
    data = deepcopy(PUBLISHED[name])
    data.get("text_config", data)["zebra_layers"] = 3
    with pytest.raises(ConfigError, match="zebra_layers=3"):
        read_config(data)


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("llama-3.1-8b-instruct", {"hidden_act": "quick_gelu"}, "hidden_act='quick_gelu'"),
        ("llama-3.1-8b-instruct", {"rope_scaling": {"rope_type": "spiral"}}, "rope_type='spiral'"),
        ("llama-3.1-8b-instruct", {"rope_scaling": {"rope_type": "linear"}}, "rope_parameters.factor"),
        (
            "llama-3.1-8b-instruct",
            {"rope_scaling": {"type": "default", "wobble": 2}},
            "rope_parameters.wobble=2",
        ),
        ("llama-3.1-8b-instruct", {"model_type": "mamba2"}, "mamba2"),
        ("llama-3.1-8b-instruct", {"quantization_config": {"quant_method": "hqq"}}, "quant_method='hqq'"),
        ("falcon-7b", {"alibi": True}, "alibi=True"),
        ("falcon-7b", {"num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn=2"),
        ("gemma-2-2b", {"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
        ("gemma-2-2b", {"layer_types": ["full_attention"]}, "layer_types"),
        ("gemma-2-2b", {"layer_types": ["linear_attention"] * 26}, "linear_attention"),
        ("gemma-2-2b", {"sliding_window": None}, "sliding_window=None"),
        ("deepseek-r1", {"topk_method": "other"}, "topk_method='other'"),
        ("deepseek-r1", {"moe_layer_freq": 2}, "moe_layer_freq=2"),
        ("deepseek-v2-lite", {"norm_topk_prob": True}, "norm_topk_prob=True"),
        ("deepseek-v2-lite", {"topk_method": "noaux_tc"}, "topk_method='noaux_tc'"),
        ("command-r7b", {"use_parallel_block": False}, "use_parallel_block=False"),
        ("phi-4-mini", {"lm_head_bias": True}, "lm_head_bias=True"),
        ("gpt-oss-20b", {"num_attention_heads": 63}, "kv_heads"),
    ],
)
def test_what_cannot_be_expressed_is_named(name: str, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config({**PUBLISHED[name], **change})
    assert sentence in str(caught.value)


def test_a_missing_key_is_named() -> None:
    for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "model_type"):
        with pytest.raises(ConfigError, match=key):
            read_config({name: value for name, value in LLAMA.items() if name != key})


def test_keys_that_change_nothing_are_passed_over() -> None:
    noise = {
        "attention_dropout": 0.3,
        "initializer_range": 1.0,
        "unsloth_fixed": True,
        "_my_note": 1,
        "zebra": None,
    }
    assert read_config({**LLAMA, **noise}) == read_config(LLAMA)


def test_a_wrapper_without_text_keys_takes_the_familys_defaults() -> None:
    config = read_config(PUBLISHED["gemma-3-4b"])
    assert (config.model_type, config.vocab, config.heads, config.kv_heads) == ("gemma3_text", 262_208, 8, 4)
    assert config.tie
    assert config.eos == (1, 106)


def test_a_configuration_its_family_cannot_write_names_the_field() -> None:
    with pytest.raises(ConfigError, match=r"ModelConfig\(qk_norm='head'\).*choose another model_type"):
        write_config(ModelConfig(vocab=10, qk_norm="head"))
    ropes = tuple(LayerSpec(rope=RopeSpec(base=base)) for base in (1e4, 1e6))
    with pytest.raises(ConfigError, match="2 different RopeSpecs"):
        write_config(ModelConfig(vocab=10, layers=2, layer_specs=ropes))
    specs = tuple(LayerSpec(attn="sliding", window=size, rope=RopeSpec()) for size in (4, 8))
    with pytest.raises(ConfigError, match="window"):
        write_config(ModelConfig(vocab=10, layers=2, layer_specs=specs, model_type="mistral"))


def test_sizes_can_be_changed_and_written_in_every_family() -> None:
    for name in cases_of(5):
        config = read_config({**CASES[name].config(), "model_type": CASES[name].kind})
        larger = replace(config, vocab=256)
        assert read_config(write_config(larger)) == larger


def test_an_unknown_model_type_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'rwkv'.*gemma3_text.*qwen3_moe"):
        family_of("rwkv")
    assert {"llama", "gpt_oss", "deepseek_v3", "gemma3_text"} <= set(families())
