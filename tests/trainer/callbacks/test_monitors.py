"""Callbacks that send numbers to the loggers."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.trainer.samples import Classifier, make_loader

from blixt.fabric import ConfigError
from blixt.trainer import CSVLogger, DeviceStatsMonitor, LearningRateMonitor, ThroughputMonitor


def rows(
    trainer: Any, folder: Path, callback: Any, module: Any = None, **options: Any
) -> list[dict[str, str]]:
    logger = CSVLogger(folder, "csv")
    made = trainer(
        logger=logger, callbacks=[callback], **{"max_epochs": 2, "log_every_n_steps": 5, **options}
    )
    made.fit(module if module is not None else Classifier(), make_loader(), make_loader(8))
    with (Path(logger.log_dir) / "metrics.csv").open() as stream:
        return [{name: text for name, text in row.items() if text} for row in csv.DictReader(stream)]


class TwoGroups(Classifier):
    def configure_optimizers(self) -> Any:
        groups = [{"params": self.net[0].parameters(), "name": "body"}, {"params": self.net[3].parameters()}]
        optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.5)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)}]


def test_the_rate_with_which_a_step_learnt_travels_with_its_row(trainer: Any, tmp_path: Path) -> None:
    monitor = LearningRateMonitor("step", log_momentum=True, log_weight_decay=True)
    found = [row for row in rows(trainer, tmp_path, monitor, max_epochs=1) if "lr-SGD" in row]
    # StepLR multiplies by 0.7 after every third step; these are the steps with index 4 and 9.
    assert [float(row["lr-SGD"]) for row in found] == pytest.approx([0.05 * 0.7, 0.05 * 0.7**3])
    assert [float(row["lr-SGD-momentum"]) for row in found] == [0.9, 0.9]
    assert [float(row["lr-SGD-weight_decay"]) for row in found] == [0.0, 0.0]
    assert monitor.lrs["lr-SGD"] == pytest.approx([0.05 * 0.7, 0.05 * 0.7**3])


def test_groups_have_names_or_numbers_and_epochs_their_own_rows(trainer: Any, tmp_path: Path) -> None:
    monitor = LearningRateMonitor("epoch")
    rows(trainer, tmp_path, monitor, TwoGroups())
    assert monitor.lrs == {"lr-AdamW/body": [0.1, 0.05], "lr-AdamW/pg2": [0.1, 0.05]}


def test_the_rate_is_a_metric_that_others_can_watch(trainer: Any, tmp_path: Path) -> None:
    made = trainer(
        logger=CSVLogger(tmp_path), callbacks=[LearningRateMonitor()], max_epochs=1, log_every_n_steps=1
    )
    made.fit(Classifier(), make_loader())
    assert float(made.callback_metrics["lr-SGD"]) == pytest.approx(0.05 * 0.7**3)


def test_optimizers_of_one_class_are_told_apart(trainer: Any, tmp_path: Path) -> None:
    class Two(Classifier):
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            for optimizer in self.optimizers():
                optimizer.step()

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.net[i].parameters(), lr=0.1 * (i + 1)) for i in (0, 3)]

    monitor = LearningRateMonitor("epoch")
    rows(trainer, tmp_path, monitor, Two(), max_epochs=1)
    assert monitor.lrs == {"lr-SGD": [0.1], "lr-SGD-1": [0.4]}


def test_monitors_refuse_a_trainer_without_loggers(trainer: Any) -> None:
    for monitor in (LearningRateMonitor(), DeviceStatsMonitor()):
        with pytest.raises(ConfigError, match="Add a logger"):
            trainer(callbacks=[monitor], max_epochs=1).fit(Classifier(), make_loader())


def test_two_groups_of_one_name_are_refused(trainer: Any, tmp_path: Path) -> None:
    class Same(Classifier):
        def configure_optimizers(self) -> Any:
            groups = [{"params": self.net[i].parameters(), "name": "same"} for i in (0, 3)]
            return torch.optim.SGD(groups, lr=0.1)

    with pytest.raises(ConfigError, match="Name each differently"):
        rows(trainer, tmp_path, LearningRateMonitor(), Same())


def test_statistics_of_the_device_come_with_rows_and_can_be_switched_off(
    trainer: Any, tmp_path: Path
) -> None:
    found = rows(trainer, tmp_path / "on", DeviceStatsMonitor(), max_epochs=1)
    names = {name for row in found for name in row if name.startswith("DeviceStatsMonitor.")}
    hooks = {name.split("/")[0].split(".")[1] for name in names}
    assert hooks == {"on_train_batch_start", "on_train_batch_end", "on_validation_end"}
    assert {name.split("/")[1] for name in names} >= {"cpu_percent"}
    quiet = rows(trainer, tmp_path / "off", DeviceStatsMonitor(cpu_stats=False), max_epochs=1)
    assert not any(name.startswith("DeviceStatsMonitor.") for row in quiet for name in row)


def test_throughput_counts_samples_and_leaves_out_validation(trainer: Any, tmp_path: Path) -> None:
    found = [row for row in rows(trainer, tmp_path, ThroughputMonitor()) if "samples_per_s" in row]
    assert len(found) == 4
    assert all(float(row["samples_per_s"]) == pytest.approx(4 * float(row["batches_per_s"])) for row in found)


def test_rates_over_a_window_are_told_for_every_stage(trainer: Any, tmp_path: Path) -> None:
    class Known(Classifier):
        flops_per_batch = 1000

    monitor = ThroughputMonitor(
        batch_size_fn=lambda batch: len(batch[0]),
        length_fn=lambda batch: batch[0].numel(),
        window_size=2,
        available_flops=1e9,
    )
    found = rows(trainer, tmp_path, monitor, Known(), log_every_n_steps=5, max_epochs=1)
    train = next(row for row in found if float(row.get("train/batches", 0)) == 10)
    assert (float(train["train/samples"]), float(train["train/lengths"])) == (40, 320)
    samples, batches = (float(train[f"train/device/{name}_per_sec"]) for name in ("samples", "batches"))
    assert samples == pytest.approx(4 * batches)
    assert float(train["train/device/items_per_sec"]) == pytest.approx(32 * batches)
    assert float(train["train/device/mfu"]) == pytest.approx(1000 * batches / 1e9)
    validated = next(row for row in found if "validate/batches" in row)
    assert float(validated["validate/samples"]) == 8


def test_a_window_needs_to_know_how_large_batches_are() -> None:
    with pytest.raises(ConfigError, match="Give batch_size_fn as well"):
        ThroughputMonitor(window_size=10)
