import pytest
import torch
from safetensors.torch import load_file, save_file

from blixt.llm.config import ModelConfig
from blixt.llm.errors import WeightsError
from blixt.llm.model import GPT
from blixt.llm.weights import load_checkpoint, save_checkpoint


@pytest.mark.parametrize("tie", [True, False])
def test_a_checkpoint_gives_back_the_same_model(tmp_path, tie: bool) -> None:
    model = GPT(ModelConfig(vocab=300, d=32, heads=4, kv_heads=2, layers=2, tie=tie)).eval()
    save_checkpoint(model, tmp_path)
    again = load_checkpoint(tmp_path)
    tokens = torch.randint(0, 300, (2, 9))
    assert again.config.to_hf() == model.config.to_hf()
    assert torch.equal(again(tokens), model(tokens))


def test_names_on_disk_are_a_hugging_face_llamas(tmp_path) -> None:
    save_checkpoint(GPT(ModelConfig(vocab=300, d=32, layers=1)), tmp_path)
    names = set(load_file(tmp_path / "model.safetensors"))
    parts = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
    mlp = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm")
    assert names == {
        "model.embed_tokens.weight",
        "model.norm.weight",
        *(f"model.layers.0.{part}.weight" for part in (*parts, *mlp)),
    }


def test_missing_unknown_and_misshapen_tensors_are_named(tmp_path) -> None:
    save_checkpoint(GPT(ModelConfig(vocab=300, d=32, layers=1)), tmp_path)
    path = tmp_path / "model.safetensors"
    whole = load_file(path)
    save_file({k: v for k, v in whole.items() if k != "model.norm.weight"}, path)
    with pytest.raises(WeightsError, match=r"lacks the tensor model\.norm\.weight"):
        load_checkpoint(tmp_path)
    save_file({**whole, "extra": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="holds the tensor extra"):
        load_checkpoint(tmp_path)
    save_file({**whole, "model.norm.weight": torch.zeros(7)}, path)
    with pytest.raises(WeightsError, match=r"model\.norm\.weight has shape \(7,\)"):
        load_checkpoint(tmp_path)


def test_a_truncated_file_is_called_truncated(tmp_path) -> None:
    save_checkpoint(GPT(ModelConfig(vocab=300, d=32, layers=1)), tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="is truncated: it has"):
        load_checkpoint(tmp_path)
