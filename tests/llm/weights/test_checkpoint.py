"""Checkpoints written and read back, damaged ones described, mapped ones without a copy."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from blixt.llm import LLM
from blixt.llm.config import ModelConfig
from blixt.llm.errors import LLMError, TooLittleMemoryError, WeightsError
from blixt.llm.model import GPT
from blixt.llm.weights import estimate as estimating
from blixt.llm.weights import load_checkpoint, load_weights, save_checkpoint, writable
from blixt.llm.weights.find import open_source
from blixt.llm.weights.safetensors_file import SafetensorsFile

CONFIG = ModelConfig(vocab=300, d=32, heads=4, kv_heads=2, layers=2, tie=False)
TOKENS = torch.arange(18).reshape(2, 9)


@pytest.fixture(scope="module")
def model() -> GPT:
    torch.manual_seed(0)
    return GPT(CONFIG).eval()


@pytest.fixture(scope="module")
def saved(model: GPT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("saved")
    save_checkpoint(model, directory)
    return directory


def mapped_files() -> str:
    return Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("tie", [True, False])
def test_a_checkpoint_gives_back_the_same_model(tmp_path: Path, tie: bool) -> None:
    model = GPT(ModelConfig(vocab=300, d=32, heads=4, kv_heads=2, layers=2, tie=tie)).eval()
    save_checkpoint(model, tmp_path)
    again = load_checkpoint(tmp_path)
    assert again.config.to_hf() == model.config.to_hf()
    assert torch.equal(again(TOKENS), model(TOKENS))


def test_names_on_disk_are_a_hugging_face_llamas(tmp_path: Path) -> None:
    save_checkpoint(GPT(ModelConfig(vocab=300, d=32, layers=1)), tmp_path)
    names = set(load_file(tmp_path / "model.safetensors"))
    parts = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
    mlp = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm")
    assert names == {
        "model.embed_tokens.weight",
        "model.norm.weight",
        *(f"model.layers.0.{part}.weight" for part in (*parts, *mlp)),
    }


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of mappings")
def test_parameters_are_the_files_own_pages(saved: Path) -> None:
    loaded = load_checkpoint(saved)
    assert str(saved / "model.safetensors") in mapped_files()
    storages = {parameter.untyped_storage().data_ptr() for parameter in loaded.parameters()}
    file = SafetensorsFile(saved / "model.safetensors")
    with (saved / "model.safetensors").open("rb") as raw:
        raw.seek(file.data_start)
        first = next(iter(file.infos))
        assert raw.read(file.infos[first].size_bytes) == file.get(first).numpy().tobytes()
    assert len(storages) == len(list(loaded.parameters()))  # views of one mapping, none of them joined


def test_writing_to_a_mapped_parameter_leaves_the_file_alone(saved: Path) -> None:
    before = (saved / "model.safetensors").read_bytes()
    loaded = load_checkpoint(saved)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.zero_()
    del loaded
    assert (saved / "model.safetensors").read_bytes() == before


def test_a_step_of_an_optimizer_on_a_mapped_model_equals_one_on_a_copied_model(saved: Path) -> None:
    models = [load_checkpoint(saved), load_checkpoint(saved, copy=True)]
    for each in models:
        optimizer = torch.optim.AdamW(each.parameters(), lr=0.1)
        each.loss(TOKENS, TOKENS).backward()
        optimizer.step()
    assert all(map(torch.equal, models[0].parameters(), models[1].parameters()))


def test_writable_gives_every_parameter_memory_of_its_own(saved: Path) -> None:
    loaded = load_checkpoint(saved)
    before = {name: parameter.data_ptr() for name, parameter in loaded.named_parameters()}
    writable(loaded)
    assert all(parameter.data_ptr() != before[name] for name, parameter in loaded.named_parameters())


def test_a_file_saved_over_a_mapped_one_does_not_change_the_loaded_model(tmp_path: Path) -> None:
    save_checkpoint(GPT(CONFIG), tmp_path)
    loaded = load_checkpoint(tmp_path)
    before = [parameter.clone() for parameter in loaded.parameters()]
    save_checkpoint(GPT(CONFIG), tmp_path)
    assert all(map(torch.equal, before, loaded.parameters()))


def test_a_dtype_can_be_asked_for_at_loading_and_at_saving(model: GPT, tmp_path: Path) -> None:
    save_checkpoint(model, tmp_path, dtype="bfloat16")
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert {parameter.dtype for parameter in load_checkpoint(tmp_path).parameters()} == {torch.bfloat16}
    wide = load_checkpoint(tmp_path, dtype=torch.float32)
    assert torch.equal(wide.embed.weight, model.embed.weight.bfloat16().float())
    with pytest.raises(WeightsError, match="no dtype 'float7'"):
        load_checkpoint(tmp_path, dtype="float7")


def test_equal_models_are_equal_files(model: GPT, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_checkpoint(model, tmp_path / name, max_shard_bytes=40_000)
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@pytest.mark.parametrize("max_shard_bytes", [1, 10_000, 40_000, 1_000_000])
def test_shards_of_any_size_give_back_the_same_tensors(
    model: GPT, tmp_path: Path, max_shard_bytes: int
) -> None:
    save_checkpoint(model, tmp_path, max_shard_bytes=max_shard_bytes)
    files = list(tmp_path.glob("*.safetensors"))
    assert (tmp_path / "model.safetensors.index.json").exists() == (len(files) > 1)
    again = load_checkpoint(tmp_path)
    assert all(map(torch.equal, again.parameters(), model.parameters()))


def test_a_save_removes_the_files_of_the_save_before(model: GPT, tmp_path: Path) -> None:
    save_checkpoint(model, tmp_path, max_shard_bytes=40_000)
    save_checkpoint(model, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    save_checkpoint(model, tmp_path, max_shard_bytes=40_000)
    assert not (tmp_path / "model.safetensors").exists()
    assert load_checkpoint(tmp_path).config == load_checkpoint(tmp_path).config


def test_a_save_that_breaks_off_leaves_the_one_before(model: GPT, saved: Path, tmp_path: Path) -> None:
    save_checkpoint(model, tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    broken = GPT(CONFIG)
    broken.blocks[1].mlp.down.weight = torch.nn.Parameter(torch.zeros(3, 3).to_sparse())  # cannot be written
    with pytest.raises(Exception, match=r".+"):
        save_checkpoint(broken, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_shards_of_two_saves_are_not_mixed(model: GPT, tmp_path: Path) -> None:
    save_checkpoint(model, tmp_path / "old", max_shard_bytes=40_000)
    save_checkpoint(GPT(CONFIG), tmp_path / "new", max_shard_bytes=40_000)
    shard = next(iter(sorted((tmp_path / "new").glob("*.safetensors"))))
    os.replace(shard, tmp_path / "old" / shard.name)
    with pytest.raises(
        WeightsError, match=rf"{shard.name} is of another save than model\.safetensors\.index"
    ):
        load_checkpoint(tmp_path / "old")


def test_a_missing_shard_is_named(model: GPT, tmp_path: Path) -> None:
    save_checkpoint(model, tmp_path, max_shard_bytes=40_000)
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(WeightsError, match=rf"lacks the shard {shard.name} that model\.safetensors\.index"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "has no weight_map"),
        ('{"weight_map": {"a": "../../etc/passwd"}}', "names '../../etc/passwd'"),
        ('{"weight_map": {}}', "names 'no file'"),
    ],
)
def test_a_damaged_index_is_described(saved: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_bytes((saved / "config.json").read_bytes())
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(WeightsError, match=message):
        load_checkpoint(tmp_path)


def test_an_index_that_lies_about_its_shards_is_described(model: GPT, tmp_path: Path) -> None:
    save_checkpoint(model, tmp_path, max_shard_bytes=40_000)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    names = list(content["weight_map"])
    content["weight_map"][names[0]] = content["weight_map"][names[-1]]
    index.write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=f"the index says that .* holds {names[0]}"):
        load_checkpoint(tmp_path)


def test_missing_unknown_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    save_checkpoint(GPT(ModelConfig(vocab=300, d=32, layers=1)), tmp_path)
    path = tmp_path / "model.safetensors"
    whole = {name: tensor.clone() for name, tensor in load_file(path).items()}
    save_file({k: v for k, v in whole.items() if k != "model.norm.weight"}, path)
    with pytest.raises(WeightsError, match=r"lacks the tensor model\.norm\.weight"):
        load_checkpoint(tmp_path)
    save_file({**whole, "extra": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="holds the tensor extra"):
        load_checkpoint(tmp_path)
    save_file({**whole, "model.norm.weight": torch.zeros(7)}, path)
    with pytest.raises(WeightsError, match=r"model\.norm\.weight has shape \(7,\)"):
        load_checkpoint(tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_cut_anywhere_is_called_truncated_empty_or_no_safetensors(
    saved: Path, tmp_path: Path, data: st.DataObject
) -> None:
    whole = (saved / "model.safetensors").read_bytes()
    cut = data.draw(st.one_of(st.integers(0, 4000), st.integers(0, len(whole) - 1)))
    path = tmp_path / "cut.safetensors"
    path.write_bytes(whole[:cut])
    with pytest.raises(WeightsError, match=r"is truncated|is empty|does not begin with") as caught:
        SafetensorsFile(path)
    assert "cut.safetensors" in str(caught.value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_in_the_header_is_an_error_in_one_sentence_or_changes_no_layout(
    saved: Path, tmp_path: Path, data: st.DataObject
) -> None:
    raw = bytearray((saved / "model.safetensors").read_bytes())
    end = SafetensorsFile(saved / "model.safetensors").data_start
    raw[data.draw(st.integers(0, end - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "config.json").write_bytes((saved / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(raw)
    try:
        loaded = load_checkpoint(tmp_path)
    except LLMError as error:
        sentence = str(error)
    else:
        assert loaded(TOKENS).shape == (2, 9, 300)
        return
    assert len(sentence.splitlines()) == 1


def test_bytes_after_the_last_tensor_are_refused(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.safetensors"
    path.write_bytes((saved / "model.safetensors").read_bytes() + b"more")
    with pytest.raises(WeightsError, match="4 bytes follow the last tensor"):
        SafetensorsFile(path)


def test_a_flipped_bit_of_a_number_is_told_when_loading_verifies(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    file = tmp_path / "copy" / "model.safetensors"
    load_checkpoint(tmp_path / "copy", verify=True)
    raw = bytearray(file.read_bytes())
    raw[-100] ^= 1
    file.write_bytes(raw)
    with pytest.raises(WeightsError, match=r"model\.safetensors is damaged: its numbers changed"):
        load_checkpoint(tmp_path / "copy", verify=True)
    with pytest.raises(WeightsError, match="its numbers changed"):
        LLM.load(tmp_path / "copy", verify=True)


def test_an_unaligned_tensor_is_read_right(tmp_path: Path) -> None:
    header = {
        "a": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [3, 11]},
    }
    text = json.dumps(header).encode()
    data = bytes([1, 2, 3]) + torch.tensor([1.5, -2.0]).numpy().tobytes()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    file = SafetensorsFile(tmp_path / "x.safetensors")
    assert file.get("b").tolist() == [1.5, -2.0]
    assert file.get("a").tolist() == [1, 2, 3]


def test_bin_files_are_read_single_and_sharded(model: GPT, saved: Path, tmp_path: Path) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(saved / "model.safetensors").items()}
    single, sharded = tmp_path / "single", tmp_path / "sharded"
    for folder in (single, sharded):
        folder.mkdir()
        (folder / "config.json").write_bytes((saved / "config.json").read_bytes())
    torch.save(tensors, single / "pytorch_model.bin")
    names = sorted(tensors)
    halves = {"pytorch_model-1.bin": names[:9], "pytorch_model-2.bin": names[9:]}
    for file, part in halves.items():
        torch.save({name: tensors[name] for name in part}, sharded / file)
    index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
    (sharded / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    for folder in (single, sharded):
        assert torch.equal(load_checkpoint(folder)(TOKENS), model(TOKENS))


def test_a_bin_file_that_would_run_code_is_refused(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((saved / "config.json").read_bytes())
    torch.save({"x": Path("/")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="holds more than tensors"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("cut", [0, 10, 3000, -200])
def test_a_cut_bin_file_is_described(saved: Path, tmp_path: Path, cut: int) -> None:
    (tmp_path / "config.json").write_bytes((saved / "config.json").read_bytes())
    torch.save(load_file(saved / "model.safetensors"), tmp_path / "pytorch_model.bin")
    whole = (tmp_path / "pytorch_model.bin").read_bytes()
    (tmp_path / "pytorch_model.bin").write_bytes(whole[:cut])
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin is (damaged|truncated|empty)|holds more"):
        load_checkpoint(tmp_path)


def test_a_folder_without_weights_says_what_was_looked_for(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(LLMError, match=r"config\.json does not exist"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").write_bytes((saved / "config.json").read_bytes())
    with pytest.raises(WeightsError, match="holds no weights"):
        load_checkpoint(tmp_path)
    with pytest.raises(LLMError, match="does not exist: is it a checkpoint directory"):
        load_checkpoint(tmp_path / "nowhere")
    (tmp_path / "a.safetensors").write_bytes((saved / "model.safetensors").read_bytes())
    load_checkpoint(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x")
    load_checkpoint(tmp_path)
    (tmp_path / "b.safetensors").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"2 \.safetensors files and no index"):
        load_checkpoint(tmp_path)


def test_load_weights_fills_a_model_that_is_there(model: GPT, saved: Path) -> None:
    other = GPT(CONFIG)
    place = other.embed.weight.data_ptr()
    load_weights(other, saved)
    assert other.embed.weight.data_ptr() == place
    assert all(map(torch.equal, other.parameters(), model.parameters()))


def test_a_model_that_does_not_fit_is_refused_before_it_is_read(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimating, "free_bytes", lambda device: 600_000)
    with pytest.raises(
        TooLittleMemoryError,
        match=r"this model needs .* of float32 weights.* cpu has 0\.60 MB free; what would: a context of \d+",
    ):
        load_checkpoint(saved)
    load_checkpoint(saved, check_memory=False)


def test_quantised_checkpoints_are_saved_and_loaded_through_the_same_functions(
    model: GPT, saved: Path, tmp_path: Path
) -> None:
    quantised = load_checkpoint(saved, quantize="int8")
    save_checkpoint(quantised, tmp_path)
    again = load_checkpoint(tmp_path)
    assert torch.equal(again(TOKENS), quantised(TOKENS))
    with pytest.raises(WeightsError, match="is quantised already"):
        load_checkpoint(tmp_path, quantize="int4")
    save_checkpoint(model, tmp_path)
    assert torch.equal(load_checkpoint(tmp_path)(TOKENS), model(TOKENS))


def test_a_source_names_the_file_of_each_tensor(model: GPT, tmp_path: Path) -> None:
    save_checkpoint(model, tmp_path, max_shard_bytes=40_000)
    source = open_source(tmp_path)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert {name: source.file_of(name).name for name in source.infos} == index["weight_map"]
