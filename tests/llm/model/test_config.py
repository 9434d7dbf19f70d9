import pytest

from blixt.llm.config import PRESETS, ModelConfig, preset
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
