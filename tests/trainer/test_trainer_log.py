"""What `self.log` means: levels, keys, means, and who gets the numbers."""

from typing import Any

import pytest
import torch
import torchmetrics

from blixt.fabric import ConfigError, FabricError, Logger
from blixt.trainer import LearningRateMonitor, ThroughputMonitor

from .samples import Classifier, make_loader


class Rows(Logger):
    def __init__(self) -> None:
        self.rows: list[tuple[int | None, dict[str, float]]] = []
        self.ended = ""

    @property
    def name(self) -> str:
        return "rows"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def finalize(self, status: str) -> None:
        self.ended = status


def fitted(trainer: Any, training_step: Any, **options: Any) -> tuple[Any, Rows]:
    rows = Rows()
    module = Classifier()
    module.training_step = training_step.__get__(module)
    run = trainer(**{"max_epochs": 1, "logger": rows, "log_every_n_steps": 4, **options})
    run.fit(module, make_loader())
    return run, rows


def loss_of(module: Any, batch: Any) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(module(batch[0]), batch[1])


def test_a_step_value_is_written_every_n_optimizer_steps_with_the_epoch(trainer: Any) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> torch.Tensor:
        self.log("number", float(batch_idx))
        return loss_of(self, batch)

    _, rows = fitted(trainer, step)
    assert rows.rows == [(3, {"number": 3.0, "epoch": 0}), (7, {"number": 7.0, "epoch": 0})]
    assert rows.ended == "success"


def test_both_levels_fork_the_name_and_callbacks_find_the_bare_one(trainer: Any) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> torch.Tensor:
        self.log("n", float(batch_idx), on_step=True, on_epoch=True, prog_bar=True)
        return loss_of(self, batch)

    run, rows = fitted(trainer, step)
    assert rows.rows[-1] == (9, {"n_epoch": 4.5, "epoch": 0})
    assert {"n_step", "n_epoch", "n"} <= set(run.callback_metrics)
    assert run.progress_bar_metrics["n_epoch"] == 4.5


@pytest.mark.parametrize(
    ("reduce_fx", "expected"), [("mean", 7.0), ("sum", 45.0), ("min", 0.0), (torch.max, 9.0), ("max", 9.0)]
)
def test_epoch_values_reduce_as_asked_and_means_weigh_by_batch_size(
    reduce_fx: Any, expected: float, trainer: Any
) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> torch.Tensor:
        weight = 1 if batch_idx < 5 else 3
        self.log("n", batch_idx, on_step=False, on_epoch=True, reduce_fx=reduce_fx, batch_size=weight)
        return loss_of(self, batch)

    run, _ = fitted(trainer, step)
    mean = (0 + 1 + 2 + 3 + 4 + 3 * (5 + 6 + 7 + 8 + 9)) / 20
    wanted = mean if reduce_fx == "mean" else expected
    assert float(run.callback_metrics["n"]) == pytest.approx(wanted)


def test_validation_means_are_of_samples_not_of_batches(trainer: Any) -> None:
    class Uneven(Classifier):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("first", batch[0][:, 0].mean())

    loader = make_loader(6, shuffle=False)
    rows = trainer().validate(Uneven(), loader, verbose=False)
    assert rows[0]["first"] == pytest.approx(float(loader.dataset.tensors[0][:, 0].mean()), rel=1e-5)


def test_several_loaders_get_a_suffix_each(trainer: Any) -> None:
    rows = trainer().validate(Two(), [make_loader(8), make_loader(4)], verbose=False)
    assert [set(row) for row in rows] == [{"index/dataloader_idx_0"}, {"index/dataloader_idx_1"}]
    assert [next(iter(row.values())) for row in rows] == [0.0, 1.0]


class Two(Classifier):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("index", float(dataloader_idx))


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        (lambda m, i: m.log("x", torch.ones(2)), "Log one number"),
        (lambda m, i: m.log("x", "text"), "a str is not a number"),
        (lambda m, i: m.log("x", 1.0, prog_bar=bool(i)), "with other options before"),
        (lambda m, i: m.log("x/dataloader_idx_3", 1.0), "suffix is added by the trainer"),
        (lambda m, i: m.log("x", 1.0, on_epoch=True, reduce_fx="median"), "Use mean, sum, min or max"),
    ],
)
def test_a_call_that_makes_no_sense_says_why(log: Any, sentence: str, trainer: Any) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> torch.Tensor:
        log(self, batch_idx)
        return loss_of(self, batch)

    with pytest.raises(ConfigError, match=sentence):
        fitted(trainer, step)


def test_logging_where_it_means_nothing_names_the_hook(trainer: Any) -> None:
    class Early(Classifier):
        def setup(self, stage: str) -> None:
            self.log("x", 1.0)

    with pytest.raises(FabricError, match="no meaning in setup"):
        trainer(max_epochs=1).fit(Early(), make_loader())

    class Late(Classifier):
        def on_train_epoch_end(self) -> None:
            self.log("x", 1.0, on_step=True)

    with pytest.raises(ConfigError, match="on_train_epoch_end runs once an epoch"):
        trainer(max_epochs=1).fit(Late(), make_loader())
    Classifier().log("x", 1.0)


def test_torchmetrics_are_computed_at_the_epochs_end_and_reset(trainer: Any) -> None:
    class Accurate(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.accuracy = torchmetrics.MeanMetric()

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            self.accuracy(float(batch_idx + 10 * self.current_epoch))
            self.log("mean", self.accuracy, on_step=False, on_epoch=True)
            return loss_of(self, batch)

    run = trainer(max_epochs=2)
    run.fit(Accurate(), make_loader())
    assert float(run.callback_metrics["mean"]) == pytest.approx(14.5)


def test_learning_rate_and_throughput_travel_with_the_row_of_the_step(trainer: Any) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> torch.Tensor:
        self.log("n", 1.0)
        return loss_of(self, batch)

    _, rows = fitted(trainer, step, callbacks=[LearningRateMonitor(), ThroughputMonitor(tokens_per_sample=7)])
    rates, step_4 = rows.rows[:2]
    assert rates == (3, {"lr-SGD": pytest.approx(0.05 * 0.7)})
    assert step_4[0] == 3
    assert set(step_4[1]) == {"n", "epoch", "samples_per_s", "batches_per_s", "tokens_per_s"}
    assert step_4[1]["tokens_per_s"] == pytest.approx(7 * step_4[1]["samples_per_s"])
