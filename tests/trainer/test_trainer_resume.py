"""Interrupted anywhere, a run goes on and ends with the very same weights."""

import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from blixt.fabric import CheckpointError, ConfigError
from blixt.fabric.rank_zero import PossibleUserWarning
from blixt.trainer import Callback, DataModule, ModelCheckpoint, Trainer, seed_everything

from .samples import Classifier, make_data, make_loader

EPOCHS, STEPS = 2, 20


class SaveAt(Callback):
    def __init__(self, steps: set[int], folder: Path) -> None:
        self.steps, self.folder = steps, folder

    def on_checkpoint_due(self, trainer: Trainer, module: Any, at_epoch_end: bool) -> None:
        if trainer.global_step in self.steps and not at_epoch_end:
            trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def uninterrupted(trainer: Any, folder: Path, loader: Any, val: Any = None, **options: Any) -> torch.Tensor:
    seed_everything(3)
    module = Classifier()
    every = SaveAt(set(range(1, STEPS + 1)), folder)
    trainer(max_epochs=EPOCHS, callbacks=[every], **options).fit(module, loader(), val)
    return weights(module)


def resumed(trainer: Any, path: Path, loader: Any, val: Any = None, **options: Any) -> torch.Tensor:
    seed_everything(99)  # a new process would not have the old one's random numbers either
    module = Classifier()
    torch.rand(7)
    trainer(max_epochs=EPOCHS, **options).fit(module, loader(), val, ckpt_path=path)
    return weights(module)


def test_a_run_resumed_after_any_step_ends_with_bitwise_the_same_weights(
    trainer: Any, tmp_path: Path
) -> None:
    whole = uninterrupted(trainer, tmp_path, make_loader, make_loader(12))
    for step in range(1, STEPS + 1):
        again = resumed(trainer, tmp_path / f"{step}.ckpt", make_loader, make_loader(12))
        assert torch.equal(again, whole), f"interrupted after step {step}"


def test_the_shuffle_goes_on_with_the_samples_that_were_not_seen(trainer: Any, tmp_path: Path) -> None:
    class Recorder(Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            self.seen += batch[0][:, 0].tolist()

    whole, first, rest = Recorder(), Recorder(), Recorder()
    seed_everything(3)
    trainer(max_epochs=1, callbacks=[whole]).fit(Classifier(), make_loader())
    seed_everything(3)
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=4)
    trainer(max_steps=4, callbacks=[first, saver], enable_checkpointing=True).fit(Classifier(), make_loader())
    trainer(max_epochs=1, callbacks=[rest]).fit(Classifier(), make_loader(), ckpt_path=saver.best_model_path)
    assert first.seen + rest.seen == whole.seen
    assert sorted(whole.seen) == sorted(make_data().tensors[0][:, 0].tolist())


class NoisyDataset(Dataset[Any]):
    """Augments with the generators of Python, numpy and torch."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Any:
        x = make_data().tensors[0][index]
        return x + random.random() + np.random.rand() + torch.rand(()), torch.tensor(index % 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_random_augmentations_resume_exactly(workers: int, trainer: Any, tmp_path: Path) -> None:
    def loader() -> DataLoader[Any]:
        return DataLoader(NoisyDataset(), 4, shuffle=True, num_workers=workers)

    whole = uninterrupted(trainer, tmp_path, loader)
    assert torch.equal(resumed(trainer, tmp_path / "13.ckpt", loader), whole)


class Stream(IterableDataset[Any]):
    """A stateful stream without a length, like a streamed corpus."""

    def __init__(self) -> None:
        self.position = 0
        self.opened_at: list[int] = []

    def __iter__(self) -> Any:
        self.opened_at.append(self.position)
        data = make_data()
        while self.position < len(data):
            self.position += 1
            yield data[self.position - 1]
        self.position = 0

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def test_a_stateful_stream_resumes_exactly_without_rereading(trainer: Any, tmp_path: Path) -> None:
    streams: list[Stream] = []

    def loader() -> DataLoader[Any]:
        streams.append(Stream())
        return DataLoader(streams[-1], 4)

    whole = uninterrupted(trainer, tmp_path, loader)
    for step in (1, 9, 10, 11, 15, 20):
        again = resumed(trainer, tmp_path / f"{step}.ckpt", loader)
        assert torch.equal(again, whole), f"interrupted after step {step}"
        assert streams[-1].opened_at[:1] == [step * 4 - 40 * (step > 10)]


def test_a_loader_that_cannot_tell_its_position_is_fast_forwarded_with_a_warning(
    trainer: Any, tmp_path: Path
) -> None:
    def loader() -> list[Any]:
        return list(make_loader(shuffle=False))

    whole = uninterrupted(trainer, tmp_path, loader)
    with pytest.warns(UserWarning, match="3 batches are loaded and thrown away"):
        again = resumed(trainer, tmp_path / "13.ckpt", loader)
    assert torch.equal(again, whole)


def test_accumulation_and_validation_within_epochs_resume_exactly(trainer: Any, tmp_path: Path) -> None:
    options = {"accumulate_grad_batches": 3, "val_check_interval": 4, "gradient_clip_val": 0.5}
    val = make_loader(12)
    whole = uninterrupted(trainer, tmp_path, make_loader, val, **options)
    for step in (1, 2, 4, 6):
        again = resumed(trainer, tmp_path / f"{step}.ckpt", make_loader, val, **options)
        assert torch.equal(again, whole)


def test_epoch_means_include_what_was_logged_before_the_interruption(trainer: Any, tmp_path: Path) -> None:
    seed_everything(3)
    whole = trainer(max_epochs=1, callbacks=[SaveAt({6}, tmp_path)])
    whole.fit(Classifier(), make_loader())
    again = trainer(max_epochs=1)
    again.fit(Classifier(), make_loader(), ckpt_path=tmp_path / "6.ckpt")
    assert again.callback_metrics["loss_epoch"] == pytest.approx(float(whole.callback_metrics["loss_epoch"]))


def test_a_run_stopped_by_max_steps_inside_an_epoch_finishes_that_epoch_later(
    trainer: Any, tmp_path: Path
) -> None:
    saver = ModelCheckpoint(tmp_path)
    trainer(max_steps=7, callbacks=[saver], enable_checkpointing=True).fit(Classifier(), make_loader())
    later = trainer(max_epochs=1)
    later.fit(Classifier(), make_loader(), ckpt_path=saver.best_model_path)
    assert later.global_step == 10


def test_auto_begins_anew_without_a_checkpoint_and_goes_on_with_the_newest(
    trainer: Any, tmp_path: Path
) -> None:
    first = trainer(max_epochs=1, enable_checkpointing=True)
    first.fit(Classifier(), make_loader(), ckpt_path="auto")
    assert first.global_step == 10
    second = trainer(max_epochs=2, enable_checkpointing=True)
    module = Classifier()
    second.fit(module, make_loader(), ckpt_path="auto")
    assert (second.global_step, len(module.losses)) == (20, 10)


def test_data_modules_keep_their_own_state_in_checkpoints(trainer: Any, tmp_path: Path) -> None:
    class Data(DataModule):
        def __init__(self) -> None:
            self.rounds = 0

        def setup(self, stage: str) -> None:
            self.rounds += 1

        def train_dataloader(self) -> Any:
            return make_loader()

        def state_dict(self) -> dict[str, Any]:
            return {"rounds": self.rounds}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.rounds += state_dict["rounds"]

    trainer(max_steps=2, callbacks=[SaveAt({2}, tmp_path)]).fit(Classifier(), datamodule=Data())
    data = Data()
    trainer(max_steps=4).fit(Classifier(), datamodule=data, ckpt_path=tmp_path / "2.ckpt")
    assert data.rounds == 2


def test_checkpoints_hold_only_what_a_safe_loader_accepts(trainer: Any, tmp_path: Path) -> None:
    uninterrupted(trainer, tmp_path, make_loader)
    content = torch.load(tmp_path / "5.ckpt", weights_only=True)
    assert {"epoch", "global_step", "state_dict", "loops", "callbacks"} <= set(content)
    assert {"optimizer_states", "lr_schedulers", "blixt"} <= set(content)
    assert content["hyper_parameters"] == {"dropout": 0.2, "learning_rate": 0.05}
    assert content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["processed"] == 5


def test_a_module_is_made_again_from_a_checkpoint_alone(trainer: Any, tmp_path: Path) -> None:
    uninterrupted(trainer, tmp_path, make_loader)
    module = Classifier.load_from_checkpoint(tmp_path / "5.ckpt", dropout=0.0)
    assert (module.hparams.dropout, module.hparams.learning_rate) == (0.0, 0.05)


def test_a_missing_a_damaged_and_a_weights_only_checkpoint_say_what_is_wrong(
    trainer: Any, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        trainer().fit(Classifier(), make_loader(), ckpt_path=tmp_path / "nowhere.ckpt")
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="damaged"):
        trainer().fit(Classifier(), make_loader(), ckpt_path=damaged)
    module, run = Classifier(), trainer(max_steps=1)
    run.fit(module, make_loader())
    run.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
    with pytest.raises(CheckpointError, match="only weights"):
        trainer().fit(Classifier(), make_loader(), ckpt_path=tmp_path / "weights.ckpt")
    with pytest.raises(ConfigError, match="no ModelCheckpoint callback"):
        trainer().fit(Classifier(), make_loader(), ckpt_path="best")


def test_resuming_warns_of_nothing(trainer: Any, tmp_path: Path) -> None:
    uninterrupted(trainer, tmp_path, make_loader)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # of whatever the collector finds now
        warnings.simplefilter(
            "ignore", PossibleUserWarning
        )  # the model has a validation_step, these runs no data
        resumed(trainer, tmp_path / "7.ckpt", make_loader)
