"""Evaluation steps that draw their batches themselves, and what loader methods give and get back."""

import pickle
from typing import Any

import pytest
import torch
from tests.trainer.samples import Classifier, make_loader
from torch.utils.data import DataLoader

from blixt.fabric import ConfigError
from blixt.trainer import CombinedLoader, DataModule, Module
from blixt.trainer.boring import BoringDataModule, BoringModel


class Drawing(Module):
    """Predicts what it draws, and notes which batch its hooks were told of."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[Any] = []

    def predict_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
        return next(dataloader_iter)

    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.ended.append((batch, batch_idx, dataloader_idx))


def test_a_predict_step_that_draws_goes_through_every_loader(trainer: Any) -> None:
    module = Drawing()
    found = trainer(limit_predict_batches=3).predict(module, {"a": [0, 1], "b": [2, 3]})
    assert found == [[(0, 0, 0), (1, 1, 0)], [(2, 0, 1), (3, 1, 1)]]
    assert module.ended == [(0, 0, 0), (1, 1, 0), (2, 0, 1), (3, 1, 1)]


def test_a_limit_ends_the_drawing_of_endless_data(trainer: Any) -> None:
    def endless() -> Any:
        while True:
            yield 1

    assert len(trainer(limit_predict_batches=3).predict(Drawing(), endless())) == 3


def test_a_validation_step_that_draws_logs_as_any_other(trainer: Any) -> None:
    class Model(Classifier):
        def validation_step(self, dataloader_iter: Any) -> None:  # type: ignore[override]
            batch, batch_idx, _ = next(dataloader_iter)
            super().validation_step(batch, batch_idx)

    torch.manual_seed(0)
    drawing, plain = Model(), Classifier()
    plain.load_state_dict(drawing.state_dict())
    loader = make_loader(12, shuffle=False)
    assert trainer().validate(drawing, loader) == trainer().validate(plain, loader)


def test_a_loader_method_that_forgets_its_return_is_told(trainer: Any) -> None:
    class Data(BoringDataModule):
        def val_dataloader(self) -> None:  # type: ignore[override]
            self.loader = super().val_dataloader()

    for verb in ("fit", "validate"):
        with pytest.raises(TypeError, match=r"Data\(val_dataloader=None\): it returned no loader"):
            getattr(trainer(max_steps=1), verb)(BoringModel(), datamodule=Data())
    with pytest.raises(ConfigError, match=r"predict_dataloader\(\)='DataModule': it has no such loader"):
        DataModule().predict_dataloader()


def test_prediction_of_nothing_is_told_once(trainer: Any) -> None:
    class Silent(BoringModel):
        def predict_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            pass

    with pytest.warns(UserWarning, match="predict_step returned None") as told:
        trainer(limit_predict_batches=4).predict(Silent())
    assert sum("returned None" in str(each.message) for each in told) == 1


def test_loaders_are_given_back_as_the_user_nested_them(trainer: Any) -> None:
    nested = {"a": DataLoader(range(4)), "b": DataLoader(range(6))}

    class Model(BoringModel):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(torch.ones(1, 32)).sum()

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:  # type: ignore[override]
            pass

    run = trainer(max_epochs=1)
    run.fit(Model(), CombinedLoader(nested, "min_size"), nested)
    assert run.train_dataloader is nested
    assert run.val_dataloaders is nested


def test_a_step_without_its_loader_is_told(trainer: Any) -> None:
    class Model(BoringModel):
        val_dataloader = None  # type: ignore[assignment]

    with pytest.warns(UserWarning, match="Model has a validation_step, but there is no loader"):
        trainer(max_steps=1).fit(Model())


def test_a_trainer_can_be_pickled_before_and_after_a_fit(trainer: Any) -> None:
    run = trainer(max_steps=2)
    assert pickle.loads(pickle.dumps(run)).global_step == 0
    run.fit(BoringModel())
    again = pickle.loads(pickle.dumps(run))
    assert (again.global_step, again.fit_loop.done) == (2, True)


def test_torch_jit_scripts_the_forward_of_a_trained_module(trainer: Any) -> None:
    module = BoringModel()
    trainer(max_steps=1).fit(module)
    scripted: Any = torch.jit.script(module)
    assert torch.equal(scripted(torch.ones(2, 32)), module(torch.ones(2, 32)))


def test_a_key_of_configure_optimizers_that_nothing_reads_is_told_and_a_misspelt_one_refused(
    trainer: Any,
) -> None:
    class Model(BoringModel):
        key = "note"

        def configure_optimizers(self) -> Any:
            return {"optimizer": torch.optim.SGD(self.parameters(), lr=0.1), self.key: 1}

    with pytest.warns(RuntimeWarning, match="the key 'note', which nothing reads"):
        trainer(max_steps=1).fit(Model())
    Model.key = "lr_schedular"
    with pytest.raises(
        ConfigError, match=r"configure_optimizers\(\)='lr_schedular'.*Did you mean 'lr_scheduler'"
    ):
        trainer(max_steps=1).fit(Model())


def test_a_checkpoint_from_beyond_max_epochs_is_refused(trainer: Any, tmp_path: Any) -> None:
    run = trainer(max_epochs=3, limit_train_batches=1)
    run.fit(BoringModel())
    run.save_checkpoint(tmp_path / "three.ckpt")
    with pytest.raises(ConfigError, match=r"Trainer\(max_epochs=2\): the checkpoint .*three.ckpt"):
        trainer(max_epochs=2).fit(BoringModel(), ckpt_path=tmp_path / "three.ckpt")
