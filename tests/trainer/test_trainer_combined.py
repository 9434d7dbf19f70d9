"""Several loaders as one: the same batches as Lightning's `CombinedLoader`, in every mode and every stage."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.combined_loader import CombinedLoader as TheirLoader
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from blixt.fabric import ConfigError
from blixt.trainer import Callback, CombinedLoader, Module, Trainer, seed_everything

MODES = ["min_size", "max_size", "max_size_cycle", "sequential"]
COLLECTIONS: dict[str, Any] = {
    "one": range(4),
    "list": [range(3), range(5)],
    "dict": {"a": range(4), "b": [1, 2]},
    "nested": {"a": [range(2), range(3)], "b": {"c": range(1)}},
    "an empty one": [range(2), []],
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", COLLECTIONS)
def test_it_draws_what_lightnings_draws(name: str, mode: Any) -> None:
    ours, theirs = CombinedLoader(COLLECTIONS[name], mode), TheirLoader(COLLECTIONS[name], mode)
    if (name, mode) == ("an empty one", "max_size_cycle"):
        assert list(ours) == []  # Lightning ends with an error of Python's here
        return
    assert list(ours) == list(theirs)
    assert len(ours) == len(iter(theirs))


@pytest.mark.parametrize("mode", MODES)
def test_limits_shorten_it_as_in_lightning(mode: Any) -> None:
    ours, theirs = CombinedLoader([range(3), range(5)], mode), TheirLoader([range(3), range(5)], mode)
    ours.limits = theirs.limits = [2, 4]
    assert len(ours) == len(iter(theirs))
    if mode == "sequential":
        assert list(ours) == list(theirs)


def test_loaders_in_it_can_be_looked_at_and_replaced() -> None:
    combined = CombinedLoader({"a": DataLoader(range(4)), "b": range(2)}, "max_size")
    assert combined.sampler["b"] is None
    combined.flattened = [range(1), range(2)]
    assert combined.iterables == {"a": range(1), "b": range(2)}
    with pytest.raises(ConfigError, match="2 loaders"):
        combined.flattened = []
    with pytest.raises(ConfigError, match="one limit each"):
        combined.limits = [1.0]
    with pytest.raises(ConfigError, match="min_size"):
        CombinedLoader([], "longest")  # type: ignore[arg-type] - the mistake under test


class Recorder(Module):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.seen.append(plain(batch))
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.seen.append((plain(batch), batch_idx, dataloader_idx))

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.validation_step(batch, batch_idx, dataloader_idx)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.validation_step(batch, batch_idx, dataloader_idx)
        return plain(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def plain(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {name: plain(item) for name, item in batch.items()}
    if isinstance(batch, list):
        return [plain(item) for item in batch]
    return batch.tolist() if isinstance(batch, torch.Tensor) else batch


def loader(rows: int, **options: Any) -> DataLoader[Any]:
    return DataLoader(list(range(rows)), 2, **options)


def test_training_draws_from_a_list_a_dict_and_nested_ones_beginning_the_shorter_again(trainer: Any) -> None:
    module = Recorder()
    trainer(max_epochs=1).fit(module, {"a": loader(4), "b": [loader(2), range(3)]})
    assert module.seen == [
        {"a": [0, 1], "b": [[0, 1], 0]},
        {"a": [2, 3], "b": [[0, 1], 1]},
        {"a": [0, 1], "b": [[0, 1], 2]},
    ]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("min_size", [[[0, 1], [0, 1]]]),
        ("max_size", [[[0, 1], [0, 1]], [[2, 3], None]]),
        ("max_size_cycle", [[[0, 1], [0, 1]], [[2, 3], [0, 1]]]),
        ("sequential", [[0, 1], [2, 3], [0, 1]]),
    ],
)
def test_every_mode_works_in_every_stage(mode: Any, expected: Any, trainer: Any) -> None:
    module = Recorder()
    fitted = trainer(max_epochs=1)
    fitted.fit(module, CombinedLoader([loader(4), loader(2)], mode))
    assert module.seen == expected
    assert fitted.num_training_batches == len(expected)
    module.seen.clear()
    trainer().validate(module, CombinedLoader([loader(4), loader(2)], mode), verbose=False)
    assert [batch for batch, *_ in module.seen] == expected
    if mode == "sequential":
        assert [places for _, *places in module.seen] == [[0, 0], [1, 0], [0, 1]]
    module.seen.clear()
    trainer().test(module, CombinedLoader([loader(4), loader(2)], mode), verbose=False)
    assert [batch for batch, *_ in module.seen] == expected
    module.seen.clear()
    predicted = trainer().predict(module, CombinedLoader([loader(4), loader(2)], mode))
    assert [batch for batch, *_ in module.seen] == expected
    assert predicted == ([expected[:2], expected[2:]] if mode == "sequential" else expected)
    module.seen.clear()
    both = CombinedLoader([loader(4), loader(2)], mode)
    trainer(max_epochs=1, num_sanity_val_steps=0).fit(module, loader(2), both)
    assert module.seen[0] == [0, 1]
    assert [batch for batch, *_ in module.seen[1:]] == expected


def test_limits_count_for_each_loader(trainer: Any) -> None:
    module = Recorder()
    pair = [loader(8), loader(4)]
    trainer(max_epochs=1, limit_train_batches=0.5).fit(module, CombinedLoader(pair, "sequential"))
    assert module.seen == [[0, 1], [2, 3], [0, 1]]
    module.seen.clear()
    trainer(limit_val_batches=1).validate(module, pair, verbose=False)
    assert [places for _, *places in module.seen] == [[0, 0], [0, 1]]


class SaveAll(Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_checkpoint_due(self, trainer: Trainer, module: Any, at_epoch_end: bool) -> None:
        kind = "end" if at_epoch_end else "step"
        trainer.save_checkpoint(self.folder / f"{kind}{trainer.global_step}.ckpt")


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(torch.arange(10))


@pytest.mark.parametrize("mode", MODES)
def test_shuffled_loaders_go_on_exactly_in_every_mode(mode: Any, trainer: Any, tmp_path: Path) -> None:
    def data() -> CombinedLoader:
        return CombinedLoader({"a": loader(10, shuffle=True), "b": loader(4, shuffle=True)}, mode)

    seed_everything(5)
    whole = Recorder()
    trainer(max_epochs=2, callbacks=[SaveAll(tmp_path)]).fit(whole, data())
    for file in sorted(tmp_path.glob("*.ckpt")):
        again = Recorder()
        trainer(max_epochs=2).fit(again, data(), ckpt_path=file)
        done = int(file.stem.removeprefix("step").removeprefix("end"))
        assert again.seen == whole.seen[done:], file.name


def test_a_cycle_shuffles_each_of_its_rounds_anew(trainer: Any) -> None:
    module = Recorder()
    trainer(max_epochs=1).fit(module, [range(60), DataLoader(list(range(10)), shuffle=True)])
    drawn = [batch[1][0] for batch in module.seen]
    rounds = [tuple(drawn[start : start + 10]) for start in range(0, 60, 10)]
    assert all(sorted(each) == list(range(10)) for each in rounds)
    assert len(set(rounds)) == 6


def test_a_list_of_batches_is_one_loader(trainer: Any) -> None:
    module = Recorder()
    batches = list(DataLoader(TensorDataset(torch.arange(4.0), torch.arange(4)), 2))
    trainer(max_epochs=1).fit(module, batches)
    assert module.seen == [[[0.0, 1.0], [0, 1]], [[2.0, 3.0], [2, 3]]]
