"""What a `DataModule` offers, with a Trainer and without."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import RandomSampler, SequentialSampler, TensorDataset

from blixt.fabric import ConfigError
from blixt.trainer import DataModule
from blixt.trainer.boring import (
    BoringDataModule,
    BoringDataModuleNoLen,
    BoringModel,
    DemoModel,
    IterableBoringDataModule,
    Net,
    RandomDataset,
    RandomDictDataset,
    RandomIterableDataset,
    RandomIterableDatasetWithLen,
)


def rows(count: int) -> TensorDataset:
    return TensorDataset(torch.ones(count, 32))


def test_datasets_become_loaders_and_only_training_is_shuffled() -> None:
    data = DataModule.from_datasets(rows(8), rows(4), batch_size=4)
    assert isinstance(data.train_dataloader().sampler, RandomSampler)
    assert isinstance(data.val_dataloader().sampler, SequentialSampler)
    assert len(data.train_dataloader()) == 2
    with pytest.raises(ConfigError, match="test_dataloader"):
        data.test_dataloader()


def test_several_and_named_datasets_become_several_and_named_loaders() -> None:
    data = DataModule.from_datasets({"a": rows(2), "b": rows(4)}, [rows(2), rows(6)], batch_size=2)
    assert {name: len(loader) for name, loader in data.train_dataloader().items()} == {"a": 1, "b": 2}
    assert [len(loader) for loader in data.val_dataloader()] == [1, 3]


def test_an_iterable_dataset_is_not_shuffled() -> None:
    data = DataModule.from_datasets(RandomIterableDataset(32, 6), batch_size=3)
    assert len(list(data.train_dataloader())) == 2


def test_a_subclass_gets_the_batch_size_if_it_wants_it() -> None:
    class Wanting(DataModule):
        def __init__(self, batch_size: int, name: str) -> None:
            super().__init__()
            self.save_hyperparameters()

    data = Wanting.from_datasets(rows(4), batch_size=2, name="x")
    assert dict(data.hparams) == {"batch_size": 2, "name": "x"}


def test_it_prints_the_sizes_of_what_is_set_up() -> None:
    data = BoringDataModule()
    assert str(data).splitlines()[0] == "{Train dataloader: None}"
    data.setup("fit")
    lines = str(data).splitlines()
    assert lines[0] == "{Train dataloader: size=64}"
    assert lines[2] == "{Test dataloader: None}"
    several = DataModule.from_datasets([rows(2), RandomIterableDataset(32, 3)])
    assert str(several).splitlines()[0] == "{Train dataloader: 1. size=2 ; 2. size=NA}"


def test_it_knows_its_trainer_only_while_there_is_one(trainer: Any) -> None:
    data = BoringDataModule()
    assert data.trainer is None
    run = trainer(fast_dev_run=True)
    run.fit(BoringModel(), datamodule=data)
    assert data.trainer is run


def test_hooks_run_around_every_stage_and_on_errors(trainer: Any) -> None:
    calls: list[str] = []

    class Noting(BoringDataModule):
        def prepare_data(self) -> None:
            calls.append("prepare")

        def setup(self, stage: str) -> None:
            calls.append(f"setup {stage}")
            super().setup(stage)

        def teardown(self, stage: str) -> None:
            calls.append(f"teardown {stage}")

        def on_exception(self, exception: BaseException) -> None:
            calls.append(f"failed with {type(exception).__name__}")

    trainer(fast_dev_run=True).fit(BoringModel(), datamodule=Noting())
    assert calls == ["prepare", "setup fit", "teardown fit"]
    calls.clear()

    class Failing(BoringModel):
        def test_step(self, batch: Any, batch_idx: int) -> Any:
            raise KeyError

    with pytest.raises(KeyError):
        trainer(fast_dev_run=True).test(Failing(), datamodule=Noting())
    assert calls == ["prepare", "setup test", "failed with KeyError"]


def test_batches_are_transferred_by_the_data_module_where_it_says_how(trainer: Any) -> None:
    seen: list[float] = []

    class Doubling(BoringDataModule):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return torch.full_like(batch, 2.0)

    class Seeing(BoringModel):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return torch.zeros_like(batch)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            seen.append(float(batch.mean()))
            return super().training_step(batch, batch_idx)

    trainer(max_epochs=1, limit_train_batches=2, limit_val_batches=0).fit(Seeing(), datamodule=Doubling())
    assert seen == [2.0, 2.0]


def test_state_and_values_travel_in_checkpoints(trainer: Any, tmp_path: Path) -> None:
    class Counting(BoringDataModule):
        def __init__(self, rows: int = 3) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.count = 0

        def state_dict(self) -> dict[str, Any]:
            return {"count": self.count}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.count = state_dict["count"]

    data = Counting(5)
    data.count = 7
    run = trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    run.fit(BoringModel(), datamodule=data)
    run.save_checkpoint(tmp_path / "a.ckpt")
    again = Counting.load_from_checkpoint(tmp_path / "a.ckpt")
    assert (again.count, again.hparams.rows) == (7, 5)
    resumed = Counting()
    more = trainer(max_epochs=2, limit_train_batches=1, limit_val_batches=0)
    more.fit(BoringModel(), datamodule=resumed, ckpt_path=tmp_path / "a.ckpt")
    assert resumed.count == 7


# --- boring -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [BoringDataModule, BoringDataModuleNoLen])
def test_boring_data_serves_every_stage(data: Any, trainer: Any) -> None:
    run, module = trainer(fast_dev_run=2), BoringModel()
    run.fit(module, datamodule=data())
    run.validate(module, datamodule=data(), verbose=False)
    run.test(module, datamodule=data(), verbose=False)


def test_iterable_boring_data_has_two_loaders_a_stage() -> None:
    data = IterableBoringDataModule()
    for stage in ("fit", "test", "predict"):
        data.setup(stage)
    assert [len(list(loader)) for loader in data.train_dataloader()] == [16, 16]
    assert [len(list(loader)) for loader in data.predict_dataloader()] == [128, 128]


def test_boring_numbers_are_those_of_lightning_under_one_seed() -> None:
    from lightning.pytorch.demos import boring_classes as theirs

    from blixt.trainer import boring as ours

    answers: list[tuple[Any, Any, Any]] = []
    for kind in (ours, theirs):
        torch.manual_seed(3)
        model, data = kind.BoringModel(), kind.RandomDictDataset(32, 4)
        loss = model.training_step(data[1]["b"], 0)["loss"]
        answers.append(
            (loss.item(), kind.Net()(torch.ones(1, 1, 28, 28)).shape, kind.DemoModel().l1.bias.sum().item())
        )
    assert answers[0] == answers[1]


def test_boring_parts_have_the_sizes_they_say() -> None:
    assert len(RandomDataset(3, 5)) == len(RandomIterableDatasetWithLen(3, 5)) == 5
    assert set(RandomDictDataset(3, 5)[0]) == {"a", "b"}
    assert DemoModel(out_dim=4)(torch.ones(2, 32)).shape == (2, 4)
    assert Net()(torch.ones(2, 1, 28, 28)).shape == (2, 10)
