"""The demo models: they train, their parameters have Lightning's names, and they see no word to come."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from blixt.compat.lightning.own.demos.lstm import LightningLSTM, SequenceSampler, SimpleLSTM
from blixt.compat.lightning.own.demos.transformer import LightningTransformer, PositionalEncoding, Transformer
from blixt.compat.lightning.own.demos.wikitext import WikiText2, tokenize
from blixt.fabric import FabricError
from blixt.trainer import Trainer

SMALL = {"vocab_size": 7, "ninp": 8, "nhid": 8, "nlayers": 1}
TEXT = "the cat sat on the mat \n the dog sat on the cat \n" * 120


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `./data` holds a text under WikiText-2's name."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "wikitext-2.txt").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def quiet(**more: int) -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("model", "first", "count", "numbers"),
    [
        (Transformer(nhead=2, **SMALL), {"decoder", "embedding", "transformer"}, 37, 1383),
        (SimpleLSTM(dropout=0.0, **SMALL), {"decoder", "encoder", "rnn"}, 7, 695),
    ],
)
def test_parameters_are_named_and_shaped_as_in_lightning_2_6_6(
    model: torch.nn.Module, first: set[str], count: int, numbers: int
) -> None:
    state = model.state_dict()
    assert {name.partition(".")[0] for name in state} == first
    assert (len(state), sum(value.numel() for value in state.values())) == (count, numbers)


def test_blocks_of_words_and_the_same_one_word_further(text: Path) -> None:
    data = WikiText2(text, block_size=4, download=False)
    words = data.dictionary.idx2word
    inputs, target = data[0]
    assert [words[i] for i in inputs] == ["the", "cat", "sat", "on"]
    assert [words[i] for i in target] == ["cat", "sat", "on", "the"]
    assert data.vocab_size == len({*TEXT.split(), "<eos>"})
    assert len(data) == 120 * 14 // 4 - 1
    numbers, dictionary = tokenize(text / "wikitext-2.txt")
    assert dictionary.idx2word[int(numbers[6])] == "<eos>"


def test_the_text_is_fetched_once_and_a_missing_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source.txt"
    source.write_text(TEXT)
    monkeypatch.setattr(WikiText2, "URL", source.as_uri())
    assert WikiText2(tmp_path / "a").vocab_size == 7
    source.unlink()
    assert WikiText2(tmp_path / "a").vocab_size == 7
    with pytest.raises(FabricError, match="cannot be fetched"):
        WikiText2(tmp_path / "b")
    assert not list((tmp_path / "b").iterdir())


@pytest.mark.parametrize("module", [LightningTransformer, LightningLSTM])
def test_the_demos_train(
    module: type[LightningTransformer | LightningLSTM], text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    model = module(vocab_size=7)
    if isinstance(model, LightningLSTM):
        model.model = SimpleLSTM(dropout=0.0, **SMALL)
    else:
        model.model = Transformer(**SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = quiet(max_steps=3)
    trainer.fit(model)
    assert trainer.global_step == 3
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_decoder_sees_no_later_word() -> None:
    torch.manual_seed(1)
    model = Transformer(**SMALL).eval()
    inputs = torch.tensor([[0, 1, 2, 3]])
    one = model(inputs, torch.tensor([[1, 2, 3, 4]])).detach()
    two = model(inputs, torch.tensor([[1, 2, 3, 6]])).detach()
    assert torch.allclose(one[:3], two[:3])
    assert not torch.allclose(one[3], two[3])


def test_each_position_has_its_own_encoding() -> None:
    encoded = PositionalEncoding(6, dropout=0.0, max_len=10)(torch.zeros(1, 4, 6))[0]
    assert encoded[0].tolist() == [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    assert len({tuple(row.tolist()) for row in encoded}) == 4


def test_samples_at_one_place_of_the_batches_follow_each_other() -> None:
    batches = list(DataLoader(range(10), batch_sampler=SequenceSampler(range(10), 3)))  # type: ignore[arg-type]
    assert [batch.tolist() for batch in batches] == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
