from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from blixt.llm.config import (
    PRESETS,
    LayerSpec,
    MLASpec,
    ModelConfig,
    MoESpec,
    RopeSpec,
    Temperature,
    preset,
)
from blixt.llm.errors import ConfigError


@pytest.mark.parametrize("name", PRESETS)
def test_hugging_face_config_round_trips(name: str) -> None:
    assert ModelConfig.from_hf(PRESETS[name].to_hf()) == PRESETS[name]


def test_version_five_rope_parameters_are_read() -> None:
    data = ModelConfig(vocab=10, rope_base=500.0).to_hf()
    del data["rope_theta"]
    data["rope_parameters"] = {"rope_type": "default", "rope_theta": 500.0}
    assert ModelConfig.from_hf(data).rope_base == 500.0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({"rope_scaling": {"rope_type": "wavelet"}}, "rope_type='wavelet'"),
        ({"qk_norm": True}, "qk_norm=True"),
        ({"hidden_act": "quick_gelu"}, "hidden_act='quick_gelu'"),
    ],
)
def test_a_config_this_decoder_cannot_be_is_refused(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        ModelConfig.from_hf(ModelConfig(vocab=10).to_hf() | change)


def test_a_missing_key_is_named() -> None:
    data = ModelConfig(vocab=10).to_hf()
    del data["hidden_size"]
    with pytest.raises(ConfigError, match="hidden_size"):
        ModelConfig.from_hf(data)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [({"heads": 3}, "multiple of kv_heads"), ({"d": 0}, "d=0"), ({"heads": 6, "kv_heads": 6}, "head_dim")],
)
def test_impossible_sizes_name_the_fields(fields: dict[str, int], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        ModelConfig(**{"vocab": 10, "d": 64, "heads": 4, "kv_heads": 2} | fields)


def test_a_preset_takes_changes_and_refuses_unknown_names() -> None:
    assert preset("demo", vocab=99).vocab == 99
    with pytest.raises(ConfigError, match="demo"):
        preset("huge")
    with pytest.raises(ConfigError, match="width"):
        preset("demo", width=3)


def test_a_directory_without_a_config_says_so(tmp_path) -> None:
    with pytest.raises(ConfigError, match="checkpoint directory"):
        ModelConfig.load(tmp_path)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"norm": "batch"}, r"norm='batch'\): must be one of 'rms'"),
        ({"act": "tanh"}, "act='tanh'"),
        ({"softcap_attn": -1.0}, "softcap_attn=-1.0"),
        ({"logits_scale": 0.0}, "logits_scale=0.0"),
        ({"layer_specs": (LayerSpec(),)}, "has 1 specs, one a layer is needed"),
        ({"layer_specs": (LayerSpec(mlp="moe"),) * 4}, r"layer_specs\[0\].mlp='moe'\): needs moe"),
        ({"layer_specs": (LayerSpec(attn="mla"),) * 4}, r"layer_specs\[0\].attn='mla'\): needs mla"),
        ({"rope": RopeSpec(dim=32)}, r"RopeSpec\(dim=32\): a head of layer 0 has only 16"),
        ({"head_dim": 15}, r"head_dim=15\): rotary embeddings need an even head_dim"),
    ],
)
def test_an_impossible_model_names_its_field(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        ModelConfig(**{"vocab": 10, "d": 64, "heads": 4, "kv_heads": 2} | fields)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: LayerSpec(attn="sliding"), "window=0"),
        (lambda: LayerSpec(attn="full", window=4), "has no window"),
        (lambda: MoESpec(4, 5, 8), "top_k=5"),
        (lambda: MoESpec(6, 2, 8, groups=4), "groups must divide experts"),
        (lambda: MoESpec(8, 3, 8, groups=4, top_groups=1), "the open groups hold fewer experts"),
        (lambda: MoESpec(8, 2, 8, shared_gate=True), "needs shared_d_ff"),
        (lambda: MLASpec(0, 8, 8, 8), "kv_rank=0"),
        (lambda: Temperature(0.1, 0), "length=0"),
    ],
)
def test_an_impossible_part_names_its_field(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make()


def test_specs_fill_in_what_layers_leave_open_and_replace_stays_right() -> None:
    config = ModelConfig(vocab=10, d=64, layers=3, heads=4, d_ff=96)
    assert config.specs == (LayerSpec(rope=RopeSpec(dim=16), d_ff=96, query_scale=0.25),) * 3
    changed = replace(config, layers=2, d_ff=128, rope_base=500.0)
    assert [spec.d_ff for spec in changed.specs] == [128, 128]
    assert changed.specs[0].rope == RopeSpec(dim=16, base=500.0)


def test_an_end_token_may_be_one_several_or_none() -> None:
    def eos(given: Any) -> tuple[int, ...]:
        return ModelConfig(vocab=10, eos=given).eos

    assert (eos(None), eos(3), eos([3, 4])) == ((), (3,), (3, 4))
