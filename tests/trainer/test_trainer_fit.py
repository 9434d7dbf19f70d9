"""What the loop does: durations, limits, accumulation, clipping, precision, manual optimisation."""

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from blixt.fabric import ConfigError, UnknownArgumentError
from blixt.trainer import (
    Callback,
    CSVLogger,
    ModelCheckpoint,
    ProgressBar,
    TensorBoardLogger,
    Trainer,
    seed_everything,
)

from .samples import Classifier, make_data, make_loader


def weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def by_hand(batches: Any, accumulate: int = 1, clip: float | None = None) -> torch.Tensor:
    seed_everything(3)
    module = Classifier(dropout=0.0)
    configured: Any = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    batches = list(batches)
    for index, (x, y) in enumerate(batches):
        if index % accumulate == 0:
            optimizer.zero_grad()
        (nn.functional.cross_entropy(module(x), y) / accumulate).backward()
        if (index + 1) % accumulate == 0 or index + 1 == len(batches):
            if clip is not None:
                nn.utils.clip_grad_norm_(module.parameters(), clip)
            optimizer.step()
            schedule.step()
    return weights(module)


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 3}, {"gradient_clip_val": 0.1}])
def test_an_epoch_computes_exactly_what_a_loop_by_hand_computes(options: Any, trainer: Any) -> None:
    loader = make_loader(shuffle=False)
    seed_everything(3)
    module = Classifier(dropout=0.0)
    trainer(max_epochs=1, **options).fit(module, loader)
    expected = by_hand(loader, options.get("accumulate_grad_batches", 1), options.get("gradient_clip_val"))
    assert torch.equal(weights(module), expected)


def test_a_window_that_a_stream_cuts_short_still_steps(trainer: Any) -> None:
    loader = make_loader(shuffle=False)
    seed_everything(3)
    module = Classifier(dropout=0.0)
    run = trainer(max_epochs=1, accumulate_grad_batches=3)
    run.fit(module, iter_of(loader))
    assert run.global_step == 4
    torch.testing.assert_close(weights(module), by_hand(loader, 3))


def iter_of(loader: Any) -> Any:
    class NoLength:
        def __iter__(self) -> Any:
            return iter(loader)

    return NoLength()


@pytest.mark.parametrize(
    ("options", "steps", "epochs"),
    [
        ({"max_epochs": 2}, 20, 2),
        ({"max_steps": 7}, 7, 1),
        ({"max_steps": 10}, 10, 1),
        ({"max_epochs": 3, "limit_train_batches": 4}, 12, 3),
        ({"max_epochs": 1, "limit_train_batches": 0.5}, 5, 1),
        ({"max_epochs": 1, "accumulate_grad_batches": 4}, 3, 1),
        ({"fast_dev_run": True}, 1, 1),
        ({"fast_dev_run": 3}, 3, 1),
        ({"max_epochs": 0}, 0, 0),
        ({"max_epochs": 1, "overfit_batches": 2}, 2, 1),
    ],
)
def test_a_run_is_as_long_as_asked(options: Any, steps: int, epochs: int, trainer: Any) -> None:
    run = trainer(**options)
    run.fit(Classifier(), make_loader(), make_loader(8))
    assert (run.global_step, run.current_epoch) == (steps, epochs)


def test_max_time_ends_a_run_that_would_go_on_for_ever(trainer: Any) -> None:
    run = trainer(max_time=timedelta(seconds=0.2))
    run.fit(Classifier(), make_loader())
    assert run.global_step > 0
    assert not run.interrupted


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        ({}, [10, 20]),
        ({"val_check_interval": 5}, [5, 10, 15, 20]),
        ({"val_check_interval": 0.5}, [5, 10, 15, 20]),
        ({"val_check_interval": 6, "check_val_every_n_epoch": None}, [6, 12, 18]),
        ({"check_val_every_n_epoch": 2}, [20]),
        ({"limit_val_batches": 0}, []),
    ],
)
def test_validation_runs_when_asked(options: Any, runs: list[int], trainer: Any) -> None:
    seen: list[int] = []

    class Note(Callback):
        def on_validation_end(self, trainer: Any, module: Any) -> None:
            seen.append(trainer.global_step)

    trainer(max_epochs=2, num_sanity_val_steps=0, callbacks=Note(), **options).fit(
        Classifier(), make_loader(), make_loader(8)
    )
    assert seen == runs


def test_the_sanity_check_fails_early_and_leaves_no_trace(trainer: Any) -> None:
    def final(sanity: int) -> torch.Tensor:
        seed_everything(3)
        module = Classifier()
        trainer(max_steps=3, num_sanity_val_steps=sanity).fit(module, make_loader(), make_loader(8))
        return weights(module)

    assert torch.equal(final(0), final(2))


def test_bf16_mixed_runs_steps_under_autocast(trainer: Any) -> None:
    seen: list[torch.dtype] = []

    class Half(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            seen.append(self(batch[0]).dtype)
            return super().training_step(batch, batch_idx)

    trainer(max_steps=1, precision="bf16-mixed").fit(Half(), make_loader())
    assert seen == [torch.bfloat16]


def test_16_mixed_scales_clips_unscaled_gradients_and_resumes(trainer: Any, tmp_path: Path) -> None:
    options = {"precision": "16-mixed", "gradient_clip_val": 0.5}

    def final(**more: Any) -> torch.Tensor:
        seed_everything(3)
        module = Classifier()
        path = more.pop("ckpt_path", None)
        trainer(**options, **more).fit(module, make_loader(), ckpt_path=path)
        return weights(module)

    whole = final(max_epochs=1)
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=4)
    final(max_steps=4, callbacks=[saver], enable_checkpointing=True)
    assert torch.equal(final(max_epochs=1, ckpt_path=saver.best_model_path), whole)


class Gan(Classifier):
    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():
            with self.toggled_optimizer(optimizer):
                optimizer.zero_grad()
                self.manual_backward(nn.functional.cross_entropy(self(batch[0]), batch[1]))
                self.clip_gradients(optimizer, 1.0)
                optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (self.net[0], self.net[3])]


def test_manual_optimisation_counts_every_optimizers_steps_and_fires_its_hooks(trainer: Any) -> None:
    fired: list[str] = []

    class Note(Callback):
        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
            fired.append("step")

        def on_after_backward(self, trainer: Any, module: Any) -> None:
            fired.append("backward")

    module = Gan()
    before = weights(module)
    run = trainer(max_epochs=1, callbacks=[Note()])
    run.fit(module, make_loader())
    assert run.global_step == 20
    assert fired == ["backward", "step"] * 20
    assert not torch.equal(weights(module), before)
    with pytest.raises(ConfigError, match="the optimizer is yours"):
        trainer(gradient_clip_val=1.0).fit(Gan(), make_loader())


def test_what_a_hook_returns_before_a_manual_step_is_ignored(trainer: Any) -> None:
    class Talkative(Callback):
        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> str:
            return "torch would take this for new arguments of step"

    run = trainer(max_steps=2, callbacks=[Talkative()])
    run.fit(Gan(), make_loader())
    assert run.global_step == 2


def test_an_optimizer_that_needs_a_closure_gets_one(trainer: Any) -> None:
    class Quasi(Classifier):
        def configure_optimizers(self) -> Any:
            return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)

    seed_everything(1)
    module = Quasi(dropout=0.0)
    run = trainer(max_epochs=5)
    run.fit(module, DataLoader(make_data(), 40))
    assert run.global_step == 5
    assert len(module.losses) > run.global_step
    assert module.losses[-1] < module.losses[0]


def test_a_plateau_scheduler_watches_its_metric(trainer: Any) -> None:
    class Flat(Classifier):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", 1.0)

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
            return {"optimizer": optimizer, "lr_scheduler": plateau, "monitor": "val_loss"}

    run = trainer(max_epochs=4)
    run.fit(Flat(), make_loader(8), make_loader(8))
    assert run.optimizers[0].param_groups[0]["lr"] == 0.125


def test_the_best_and_the_last_checkpoints_are_kept_and_never_older_than_their_metric(
    trainer: Any, tmp_path: Path
) -> None:
    scores = [5.0, 1.0, 3.0, 2.0]

    class Scored(Classifier):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", scores[min(self.current_epoch, 3)])

    saver = ModelCheckpoint(
        tmp_path, "{epoch}-{val_loss:.1f}", "val_loss", save_top_k=2, save_last=True, every_n_train_steps=2
    )
    run = trainer(max_epochs=4, callbacks=[saver], enable_checkpointing=True, num_sanity_val_steps=0)
    run.fit(Scored(), make_loader(8), make_loader(8))
    kept = sorted(path.name for path in tmp_path.glob("*.ckpt"))
    assert kept == ["epoch=1-val_loss=1.0.ckpt", "epoch=3-val_loss=2.0.ckpt", "last.ckpt"]
    assert Path(saver.best_model_path).name == "epoch=1-val_loss=1.0.ckpt"
    assert float(saver.best_model_score) == 1.0
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 8
    assert run.validate(Scored(), make_loader(8), ckpt_path="best", verbose=False)


def test_predictions_come_back_and_test_prints_its_metrics(trainer: Any, capsys: Any) -> None:
    run, module = trainer(), Classifier()
    predictions = run.predict(module, [x for x, _ in make_loader(8)])
    assert [tuple(part.shape) for part in predictions] == [(4, 2), (4, 2)]
    rows = run.test(module, make_loader(8))
    assert set(rows[0]) == {"test_loss"}
    assert capsys.readouterr().out.startswith("test\ntest_loss  ")
    assert module.training


def test_loggers_write_files_that_their_tools_read(trainer: Any, tmp_path: Path) -> None:
    loggers = [CSVLogger(tmp_path, "csv"), TensorBoardLogger(tmp_path, "tb")]
    trainer(max_epochs=1, logger=loggers, log_every_n_steps=5).fit(
        Classifier(), make_loader(), make_loader(8)
    )
    lines = (tmp_path / "csv" / "version_0" / "metrics.csv").read_text().splitlines()
    assert set(lines[0].split(",")) == {"step", "epoch", "loss_step", "loss_epoch", "val_loss"}
    assert len(lines) == 5
    assert (tmp_path / "csv" / "version_0" / "hparams.yaml").exists()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tb" / "version_0")).Reload()
    assert [event.step for event in events.Scalars("loss_step")] == [4, 9]


def test_the_bar_writes_a_line_an_epoch_where_nobody_watches(trainer: Any) -> None:
    stream = io.StringIO()
    bar = ProgressBar(stream=stream)
    trainer(max_epochs=2, callbacks=[bar], enable_progress_bar=True).fit(Classifier(), make_loader())
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2  10/10")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_epoch": 3}, "Did you mean 'max_epochs'"),
        ({"limit_train_batches": 1.5}, "a number of batches"),
        ({"limit_val_batches": True}, "a number of batches"),
        ({"val_check_interval": 0}, "Use e.g. 500, 0.25"),
        ({"check_val_every_n_epoch": None, "val_check_interval": 0.5}, "Give a number of batches"),
        ({"max_time": "one hour"}, "'00:02:00:00'"),
        ({"gradient_clip_algorithm": "both"}, "Use 'norm' or 'value'"),
        ({"accumulate_grad_batches": 0}, "at least 1"),
        ({"max_steps": -2}, "Use -1 for no limit"),
        ({"callbacks": ["bar"]}, "Derive it from Callback"),
        ({"logger": "csv"}, "Give one, True or False"),
    ],
)
def test_an_argument_that_cannot_work_is_named_with_a_fix(options: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        Trainer(accelerator="cpu", **options)
    assert next(iter(options)) in str(caught.value)
    assert isinstance(caught.value, UnknownArgumentError) == ("max_epoch" in options)


def test_a_val_check_interval_longer_than_the_epoch_names_both_numbers(trainer: Any) -> None:
    with pytest.raises(ConfigError, match="one epoch has 10 batches"):
        trainer(val_check_interval=50).fit(Classifier(), make_loader(), make_loader(8))


def test_nothing_to_train_on_and_the_wrong_kind_of_model_are_said_plainly(trainer: Any) -> None:
    with pytest.raises(ConfigError, match="nothing to train on"):
        trainer().fit(Classifier())
    with pytest.raises(ConfigError, match=r"Derive it from blixt\.Module"):
        trainer().fit(nn.Linear(1, 1), make_loader())

    class None_(Classifier):
        def configure_optimizers(self) -> Any:
            return None

    with pytest.warns(UserWarning, match="moves no weights"):
        trainer(max_epochs=1).fit(None_(), make_loader(8))
    assert len(make_data()) == 40
