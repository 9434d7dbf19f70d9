"""The door's bars of tqdm can be shaped and looked at like Lightning's."""

import logging
import pickle
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import TQDMProgressBar as Theirs
from torch.utils.data import DataLoader

from blixt import trainer as ours
from blixt.compat.lightning.own.tqdm_bar import TQDMProgressBar, padded
from blixt.fabric import FabricError


def module_of(base: type) -> Any:
    class Net(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("a", 0.25, prog_bar=True)
            self.log("n", 2, prog_bar=True)
            self.print("said", end="")
            return self.layer(batch).mean()

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            pass

        test_step = predict_step = validation_step

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Net()


def noting(base: type, notes: list[Any], **options: Any) -> Any:
    """A bar as people derive it from Lightning's: each init is noted, and one title is changed."""

    class Mine(base):  # type: ignore[misc]
        def init_train_tqdm(self) -> Any:
            notes.append("train")
            return super().init_train_tqdm()

        def init_sanity_tqdm(self) -> Any:
            notes.append("sanity")
            return super().init_sanity_tqdm()

        def init_validation_tqdm(self) -> Any:
            notes.append("validation")
            bar = super().init_validation_tqdm()
            bar.set_description("running validation ...")
            return bar

        def init_test_tqdm(self) -> Any:
            notes.append("test")
            return super().init_test_tqdm()

        def get_metrics(self, *args: Any) -> Any:
            return {**super().get_metrics(*args), "extra": 1}

        def on_validation_batch_end(self, *args: Any) -> None:
            super().on_validation_batch_end(*args)
            notes.append((self.val_progress_bar.desc, self.val_progress_bar.n, self.val_progress_bar.total))

        def on_train_batch_end(self, *args: Any) -> None:
            super().on_train_batch_end(*args)
            notes.append((self.train_progress_bar.desc, self.train_progress_bar.n))

        def on_train_epoch_end(self, *args: Any) -> None:
            super().on_train_epoch_end(*args)
            if self.is_enabled:
                notes.append(self.train_progress_bar.postfix)

        def on_test_batch_end(self, *args: Any) -> None:
            super().on_test_batch_end(*args)
            notes.append((self.test_progress_bar.desc, self.test_progress_bar.n))

        def on_predict_batch_end(self, *args: Any) -> None:
            super().on_predict_batch_end(*args)
            notes.append((self.predict_progress_bar.desc, self.predict_progress_bar.n))

    return Mine(**options)


def shown(library: Any, module_base: type, bar_base: type, **options: Any) -> list[Any]:
    """All that happens to the bars of a trainer through its four stages."""
    notes: list[Any] = []
    bar = noting(bar_base, notes, **options)
    trainer = library.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=2,
        num_sanity_val_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[bar],
    )
    module = module_of(module_base)
    loaders = [DataLoader(torch.ones(3, 2)), DataLoader(torch.ones(2, 2))]
    trainer.fit(module, DataLoader(torch.ones(5, 2)), loaders)
    trainer.validate(module, loaders, verbose=False)
    trainer.test(module, loaders[0], verbose=False)
    trainer.predict(module, loaders)
    return [*notes, bar.is_enabled, bar.refresh_rate, trainer.progress_bar_callback is bar]


@pytest.mark.parametrize("options", [{}, {"refresh_rate": 3, "leave": True}, {"refresh_rate": 0}])
def test_bars_are_made_titled_and_moved_as_in_lightning(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture, recwarn: Any
) -> None:
    with caplog.at_level(logging.ERROR, logger="lightning.pytorch"):
        theirs = shown(pl, pl.LightningModule, Theirs, **options)
    mine = shown(ours, ours.Module, TQDMProgressBar, **options)
    assert mine == theirs


def test_what_a_module_prints_goes_above_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    shown(ours, ours.Module, TQDMProgressBar)
    out = capsys.readouterr().out
    assert out.count("said") == 10
    assert "running validation" in out
    assert "extra=1" in out


def test_a_bar_that_has_not_begun_says_so_and_can_be_pickled() -> None:
    bar = TQDMProgressBar(refresh_rate=2, process_position=1)
    with pytest.raises(TypeError, match="train_progress_bar is made when that stage begins"):
        _ = bar.train_progress_bar
    again = pickle.loads(pickle.dumps(bar))
    assert (again.refresh_rate, again.process_position) == (2, 1)


@pytest.mark.parametrize(
    ("number", "text"),
    [(1, "1"), (1.0, "1.000"), (0.1, "0.100"), (1e-3, "0.001"), ("1.0", "1.000"), ("10000", "10000")],
)
def test_numbers_keep_their_width(number: Any, text: str) -> None:
    from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

    assert padded(number) == text == Tqdm.format_num(number)


@pytest.mark.parametrize(
    ("given", "environment", "rate"),
    [(1, {"COLAB_GPU": "1"}, 20), (19, {"COLAB_GPU": "1"}, 19), (1, {"TQDM_MINITERS": "2"}, 2), (2, {}, 2)],
)
def test_the_environment_has_a_say_in_how_often(
    given: int, environment: dict[str, str], rate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert TQDMProgressBar(given).refresh_rate == Theirs(given).refresh_rate == rate


def test_without_tqdm_it_is_our_own_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert type(TQDMProgressBar(refresh_rate=5)) is ours.TQDMProgressBar


def test_two_bars_and_a_bar_that_is_not_wanted_are_refused() -> None:
    with pytest.raises(FabricError, match="draw over each other"):
        ours.Trainer(accelerator="cpu", callbacks=[TQDMProgressBar(), TQDMProgressBar()])
    with pytest.raises(FabricError, match="enable_progress_bar"):
        ours.Trainer(accelerator="cpu", callbacks=[TQDMProgressBar()], enable_progress_bar=False)
