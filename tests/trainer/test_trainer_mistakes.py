"""What people get wrong: each mistake is named with its value, the reason and what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from blixt.fabric import CheckpointError, ConfigError, FabricError
from blixt.trainer import DataModule, EarlyStopping, ModelCheckpoint, Module, Trainer
from blixt.trainer.former import FORMER


class Net(Module):
    """One layer, and whatever `returned` makes of its loss."""

    def __init__(self, returned: Callable[[torch.Tensor], Any] = lambda loss: loss) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.returned = returned

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.returned(self.layer(batch).mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class NoArguments(Net):
    def training_step(self) -> Any:  # type: ignore[override]
        """Takes nothing."""


class TooMany(Net):
    def training_step(self, batch: Any, batch_idx: int, more: int) -> Any:  # type: ignore[override]
        """Takes more than there is."""


class Stateless:
    """A scheduler that steps and keeps nothing."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self.steps: list[int] = []

    def step(self) -> None:
        self.steps.append(1)


class ByEpoch(Stateless):
    def step(self, epoch: int) -> None:  # type: ignore[override]
        self.steps.append(epoch)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keeps nothing."""


class Scheduled(Net):
    """Trains with a scheduler of `kind`."""

    def __init__(self, kind: Callable[[Any], Any]) -> None:
        super().__init__()
        self.kind = kind
        self.scheduler: Any = None

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        self.scheduler = self.kind(optimizer)
        return [optimizer], [self.scheduler]


class StepsItself(Scheduled):
    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        scheduler.step(self.current_epoch)


class Nothing(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


def loader(rows: int = 4) -> Any:
    return DataLoader(torch.ones(rows, 2), 2)  # type: ignore[arg-type]


def fit_with(module: Any, *args: Any, **given: Any) -> Callable[[Any], Any]:
    return lambda make: make(max_epochs=1).fit(module, *(args or (loader(),)), **given)


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a loss in a dict that is a float": (
        fit_with(Net(lambda loss: {"loss": 1.0})),
        r"training_step\(loss='float'\): it is no tensor. Return the loss as it is",
    ),
    "the class of a module": (fit_with(Net), r"fit\(model='Net'\): it is the class. Make one of it: Net\(\)"),
    "a model of torch": (fit_with(torch.nn.Linear(2, 1)), r"model='Linear'.*Derive it from blixt.Module"),
    "the class of a data module": (
        fit_with(Net(), None, datamodule=DataModule),
        r"fit\(datamodule='DataModule'\): it is the class",
    ),
    "something else as data module": (fit_with(Net(), None, datamodule=3), r"fit\(datamodule='int'\)"),
    "a step without arguments": (fit_with(NoArguments()), r"'no argument': it is given batch and batch_idx"),
    "a step with too many": (
        fit_with(TooMany()),
        "'batch, batch_idx, more': it is given batch and batch_idx",
    ),
    "a metric that nobody logged": (
        lambda make: make(callbacks=[EarlyStopping("val_los")], max_epochs=1).fit(Logs(), loader()),
        r"EarlyStopping\(monitor='val_los'\): no such metric.*Did you mean 'val_loss'",
    ),
    "a metric far from all": (
        lambda make: make(callbacks=[EarlyStopping("f1")], max_epochs=1).fit(Logs(), loader()),
        r"EarlyStopping\(monitor='f1'\): no such metric has been logged. Known are val_loss\.",
    ),
    "the best of a trainer that saves none": (
        lambda make: make(max_epochs=1).fit(Net(), loader(), ckpt_path="best"),
        "this trainer has no ModelCheckpoint callback",
    ),
    "a scheduler that wants the epoch": (
        lambda make: make(max_epochs=1).fit(Scheduled(ByEpoch), loader()),
        r"scheduler='ByEpoch'.*its step\(epoch.*\) asks for more.*Write lr_scheduler_step in the module",
    ),
    "a schedule of windows": (
        lambda make: make(accumulate_grad_batches={0: 2}),
        "GradientAccumulationScheduler",
    ),
}


class Logs(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("val_loss", loss)
        return loss


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_mistake_is_refused_in_a_sentence_that_says_what_to_do(mistake: str, trainer: Any) -> None:
    attempt, sentence = REFUSED[mistake]
    with pytest.raises(ConfigError, match=sentence):
        attempt(trainer)


TOLD: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no loss at all": (fit_with(Net(lambda loss: None)), "no batch of epoch 0 had a loss.*Return the loss"),
    "a stream that gives nothing": (
        fit_with(Net(), DataLoader(Nothing())),
        "The training loader gave no batch in epoch 0. Check what its dataset yields",
    ),
}


@pytest.mark.parametrize("mistake", TOLD)
def test_a_run_that_trains_nothing_says_so(mistake: str, trainer: Any) -> None:
    attempt, sentence = TOLD[mistake]
    with pytest.warns(UserWarning, match=sentence):
        attempt(trainer)


def test_steps_that_skip_some_batches_only_are_not_told(trainer: Any, recwarn: Any) -> None:
    losses = iter((None, 1.0))
    module = Net(lambda loss: None if next(losses) is None else loss)
    trainer(max_epochs=1).fit(module, loader())
    assert not [warning for warning in recwarn if "had a loss" in str(warning.message)]


def test_a_dataset_in_the_place_of_a_loader_is_told(trainer: Any) -> None:
    class Rows(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch[0], batch_idx)

    with pytest.warns(UserWarning, match=r"TensorDataset, which is a Dataset.*Wrap it in a DataLoader"):
        trainer(max_epochs=1).fit(Rows(), TensorDataset(torch.ones(2, 2)))


@pytest.mark.parametrize("argument", FORMER)
def test_an_argument_of_former_trainers_says_what_took_its_place(argument: str) -> None:
    with pytest.raises(
        TypeError, match=rf"Trainer\({argument}='old'\): Lightning's Trainer had it once. Use "
    ):
        Trainer(**{argument: "old"})


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02}q\x00.", b"PK\x03\x04 torn", b"\x00" * 64])
def test_a_file_that_is_no_checkpoint_is_named(content: bytes, trainer: Any, tmp_path: Path) -> None:
    path = tmp_path / "strange.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"strange\.ckpt"):
        trainer(max_epochs=1).fit(Net(), loader(), ckpt_path=path)
    with pytest.raises(CheckpointError, match=r"strange\.ckpt"):
        Net.load_from_checkpoint(path)


def test_a_lightning_module_is_told_how_to_run(trainer: Any) -> None:
    import lightning.pytorch as pl

    with pytest.raises(FabricError, match=r"python -m blixt\.compat\.lightning"):
        trainer(max_epochs=1).fit(pl.LightningModule(), loader())


def test_two_rhythms_in_one_checkpoint_callback_are_refused() -> None:
    with pytest.raises(ConfigError, match="Use two ModelCheckpoints"):
        ModelCheckpoint(every_n_epochs=1, every_n_train_steps=2)


def test_a_scheduler_without_a_state_is_of_a_wrong_type(trainer: Any) -> None:
    with pytest.raises(TypeError, match=r"scheduler='Stateless'.*it has no state_dict, load_state_dict"):
        trainer(max_epochs=1).fit(Scheduled(Stateless), loader())


def test_a_scheduler_that_wants_the_epoch_gets_it_from_the_modules_own_step(trainer: Any) -> None:
    module = StepsItself(ByEpoch)
    trainer(max_epochs=3).fit(module, loader())
    assert module.scheduler.steps == [0, 1, 2]


def test_the_best_of_several_callbacks_says_whose_it_is(trainer: Any, tmp_path: Path) -> None:
    keepers = [
        ModelCheckpoint(tmp_path / name, save_last=False, every_n_epochs=n)
        for n, name in ((1, "a"), (2, "b"))
    ]
    run = trainer(max_epochs=2, callbacks=keepers, enable_checkpointing=True)
    run.fit(Logs(), loader())
    with pytest.warns(UserWarning, match="2 callbacks have a best checkpoint; the first one's is taken"):
        run.fit(Logs(), loader(), ckpt_path="best")
    assert run.ckpt_path == keepers[0].best_model_path
