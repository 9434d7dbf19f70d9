"""A signal during validation: the run ends at that batch, and later validates as if it had never begun to."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanMetric

from blixt.trainer import Callback, EMAWeightAveraging, seed_everything

from .samples import Classifier, make_data, make_loader
from .test_trainer_resume import weights

VAL_BATCHES = 6


class Jittered(Dataset[Any]):
    """A validation that draws random numbers."""

    def __len__(self) -> int:
        return 4 * VAL_BATCHES

    def __getitem__(self, index: int) -> Any:
        x, y = make_data()[index]
        return x + torch.rand(()), y


class Drawing:
    """A plain iterable, whose batches come out of the generators of the process itself."""

    def __len__(self) -> int:
        return VAL_BATCHES

    def __iter__(self) -> Any:
        x, y = make_data().tensors
        for _ in range(VAL_BATCHES):
            yield x + torch.rand(()), y


class Measured(Classifier):
    """Its metrics see training as well as validation, in the middle of an epoch."""

    def __init__(self, struck_at: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.both, self.own = MeanMetric(), MeanMetric()
        self.struck_at, self.validated = struck_at, 0

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        self.both.update(loss.detach())
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        loss = torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.both.update(loss)
        self.own(loss)
        self.log("own", self.own)
        self.log("noise", torch.rand(()))
        if not self.trainer.sanity_checking:
            self.validated += 1
            if self.validated in self.struck_at:
                os.kill(os.getpid(), signal.SIGTERM)

    def on_train_epoch_end(self) -> None:
        self.log("both", self.both.compute())
        self.both.reset()


class Notes(Callback):
    """What an undisturbed run shows of each validation and epoch."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if not trainer.sanity_checking:
            self.rows.append(self.shown(trainer, "val_loss", "own", "noise"))

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.rows.append(self.shown(trainer, "both"))

    @staticmethod
    def shown(trainer: Any, *names: str) -> list[Any]:
        return [trainer.global_step, *(float(trainer.callback_metrics.get(name, -1.0)) for name in names)]


def run(make: Any, val: Any, struck_at: tuple[int, ...], again: bool, **options: Any) -> tuple[Any, Notes]:
    notes = Notes()
    seed_everything(99 if again else 3)
    module = Measured(struck_at)
    options = {"max_epochs": 2, "val_check_interval": 5, **options}
    path = "auto" if again else None
    fit = make(callbacks=[notes], enable_checkpointing=True, **options).fit
    if struck_at:
        with pytest.raises(SystemExit) as left:
            fit(module, make_loader(), val, ckpt_path=path)
        assert left.value.code == 143
        assert module.validated == struck_at[-1], "the validation went on after the signal"
    else:
        fit(module, make_loader(), val, ckpt_path=path)
    return module, notes


@pytest.mark.parametrize("batch", [1, 4, VAL_BATCHES, 2 * VAL_BATCHES, 4 * VAL_BATCHES - 1])
@pytest.mark.parametrize("kind", ["dataset", "iterable"])
def test_a_signal_in_validation_ends_it_at_that_batch_and_it_runs_again_alike(
    trainer: Any, tmp_path: Path, kind: str, batch: int
) -> None:
    def data() -> Any:
        return DataLoader(Jittered(), 4) if kind == "dataset" else Drawing()

    whole, expected = run(trainer, data(), (), again=False, default_root_dir=tmp_path / "whole")
    _, first = run(trainer, data(), (batch,), again=False)
    module, rest = run(trainer, data(), (), again=True)
    assert torch.equal(weights(module), weights(whole))
    assert first.rows[:-1] + rest.rows == expected.rows


def test_a_second_signal_in_the_validation_that_runs_again_changes_nothing(
    trainer: Any, tmp_path: Path
) -> None:
    whole, expected = run(trainer, Drawing(), (), again=False, default_root_dir=tmp_path / "whole")
    run(trainer, Drawing(), (8,), again=False)
    run(trainer, Drawing(), (3,), again=True)
    module, rest = run(trainer, Drawing(), (), again=True)
    assert torch.equal(weights(module), weights(whole))
    assert rest.rows == expected.rows[1:]


def test_a_validation_that_ends_the_run_is_made_up_for(trainer: Any, tmp_path: Path) -> None:
    limits = {"max_steps": 15, "max_epochs": -1}
    whole, expected = run(trainer, Drawing(), (), again=False, default_root_dir=tmp_path / "whole", **limits)
    run(trainer, Drawing(), (2 * VAL_BATCHES + 2,), again=False, **limits)
    module, rest = run(trainer, Drawing(), (), again=True, **limits)
    assert torch.equal(weights(module), weights(whole))
    assert rest.rows == expected.rows[2:]


def test_gradients_that_are_being_gathered_are_not_lost_by_a_signal_in_validation(
    trainer: Any, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"accumulate_grad_batches": 2}
    whole, _ = run(trainer, Drawing(), (), again=False, default_root_dir=tmp_path / "whole", **options)
    seed_everything(3)
    module = Measured((2,))  # after batch 5 of 10, whose gradients wait for those of batch 6
    with pytest.raises(SystemExit):
        trainer(max_epochs=2, val_check_interval=5, enable_checkpointing=True, **options).fit(
            module, make_loader(), Drawing()
        )
    assert module.validated == VAL_BATCHES
    assert module.trainer.counters.batch == 6
    module, _ = run(trainer, Drawing(), (), again=True, **options)
    assert torch.equal(weights(module), weights(whole))


class SwapsWeights(Callback):
    """What people write who validate an average: other weights from the validation's start to its end."""

    def __init__(self) -> None:
        self.kept: list[torch.Tensor] = []

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        self.kept = [parameter.detach().clone() for parameter in module.parameters()]
        for parameter in module.parameters():
            parameter.data.mul_(0.5)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        for parameter, kept in zip(module.parameters(), self.kept, strict=True):
            parameter.data.copy_(kept)


def averaged(make: Any, kind: Any, struck_at: tuple[int, ...], again: bool, **options: Any) -> Any:
    """A run with a callback that validates other weights; the callback itself is returned as well."""
    seed_everything(99 if again else 3)
    module, other = Measured(struck_at), kind()
    fit = make(
        max_epochs=2, val_check_interval=5, enable_checkpointing=True, callbacks=[other], **options
    ).fit
    if struck_at:
        with pytest.raises(SystemExit):
            fit(module, make_loader(), Drawing())
    else:
        fit(module, make_loader(), Drawing(), ckpt_path="auto" if again else None)
    return module


@pytest.mark.parametrize("batch", [2, VAL_BATCHES + 3])
@pytest.mark.parametrize("kind", [EMAWeightAveraging, SwapsWeights])
def test_a_signal_in_a_validation_of_averaged_weights_loses_nothing(
    trainer: Any, tmp_path: Path, kind: Any, batch: int
) -> None:
    whole = averaged(trainer, kind, (), again=False, default_root_dir=tmp_path / "whole")
    broken = averaged(trainer, kind, (batch,), again=False)
    prompt = kind is EMAWeightAveraging
    assert (broken.validated == batch) == prompt, "only its owner can put other weights back: it ends first"
    rest = averaged(trainer, kind, (), again=True)
    assert torch.equal(weights(rest), weights(whole))
