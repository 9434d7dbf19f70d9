"""What two ranks log: one number, whoever has logged what."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = '''
import json, sys, warnings
from pathlib import Path
import torch, torchmetrics
import torch.distributed as dist
from torch.utils.data import DataLoader
from blixt.fabric import ConfigError, Logger
from blixt.fabric.strategies.model_parallel import ModelParallelStrategy
from blixt.trainer import Trainer
from blixt.trainer.boring import BoringModel, RandomDataset

torch.set_num_threads(1)
out = Path(sys.argv[1])
report = {}

class Rows(Logger):
    name, version = "rows", 0
    def __init__(self): self.rows = []
    def log_metrics(self, metrics, step=None): self.rows.append([step, dict(metrics)])

class Talker(BoringModel):
    """On rank r in batch b logs 10 * r + b with weight r + 1."""
    allow_zero_length_dataloader_with_multiple_devices = True
    def __init__(self):
        super().__init__()
        self.mean = torchmetrics.MeanMetric()
        self.late = torchmetrics.MeanMetric()
        self.calls = 0
        self.shared = []

    def training_step(self, batch, batch_idx):
        rank, number = self.global_rank, 10.0 * self.global_rank + batch_idx
        both = {"on_step": True, "on_epoch": True, "batch_size": rank + 1}
        self.log("default", number, **both)
        self.log("synced", number, sync_dist=True, **both)
        self.log("alone", number, sync_dist=False, **both)
        for kind in ("sum", "min", "max"):
            self.log(kind, torch.tensor(number), on_step=False, on_epoch=True, reduce_fx=kind, sync_dist=True)
        self.log("group", number, on_step=False, on_epoch=True, sync_dist=True, batch_size=1,
                 sync_dist_group=self.pairs)
        self.log("big", torch.tensor(2**40 + rank), on_step=False, on_epoch=True, reduce_fx="sum")
        if rank == 0:
            self.log("zero", 5.0, rank_zero_only=True, on_epoch=True, on_step=False)
            self.log("only_here", number, on_step=False, on_epoch=True, batch_size=1)
        self.log("late", number, sync_dist=True, reduce_fx="sum")
        for index in range(70):
            self.log(f"many{index}", float(index + rank), on_step=False, on_epoch=True, sync_dist=True)
        if batch_idx == 1:
            self.trainer.logbook.share_steps()
            self.shared.append(float(self.trainer.callback_metrics["synced_step"]))
        return self.step(batch)

    def on_train_epoch_end(self):
        report["seen"] = {k: float(v) for k, v in self.trainer.callback_metrics.items() if "many" not in k}
        self.log("end", 1.0 + self.global_rank, reduce_fx="sum")

    def validation_step(self, batch, batch_idx):
        self.mean.update(batch.shape[0] * 1.0)
        self.log("metric", self.mean)
        self.log("rows", float(batch.shape[0]), reduce_fx="sum")

rows = Rows()
module = Talker()
options = dict(accelerator="cpu", devices=2, enable_checkpointing=False, enable_progress_bar=False,
               enable_model_summary=False, default_root_dir=out, num_sanity_val_steps=0)
trainer = Trainer(max_epochs=1, log_every_n_steps=3, logger=rows, **options)
trainer.fabric.launch()
module.pairs = dist.new_group([0, 1])
trainer.fit(module, DataLoader(RandomDataset(32, 24), 4), DataLoader(RandomDataset(32, 1), 4))
report["metrics"] = {k: float(v) for k, v in trainer.callback_metrics.items()}
report["rows"] = rows.rows
report["shared"] = module.shared
report["refused"] = str(trainer.logbook.missing("EarlyStopping(monitor)", "zero"))

class Uneven(BoringModel):
    def training_step(self, batch, batch_idx):
        self.log(f"of_rank_{self.global_rank}", 1.0, sync_dist=True)
        return self.step(batch)

try:
    Trainer(max_steps=1, log_every_n_steps=1, logger=Rows(), limit_val_batches=0, **options).fit(Uneven())
except ConfigError as error:
    report["error"] = str(error)
class Twins(BoringModel):
    def training_step(self, batch, batch_idx):
        self.log("once", 1.0, on_step=False, on_epoch=True, reduce_fx="sum")
        self.log("rowless", 1.0 + self.global_rank, sync_dist=True)
        return self.step(batch)

strategy = ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=2)
twins = Trainer(max_epochs=1, limit_train_batches=4, limit_val_batches=0, logger=False,
                strategy=strategy, **options)
twins.fit(Twins())
report["once"], report["rowless"] = (float(twins.callback_metrics[name]) for name in ("once", "rowless"))
(out / f"report{trainer.global_rank}.json").write_text(json.dumps(report))
'''


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr[-3000:]
    return [json.loads((folder / f"report{rank}.json").read_text()) for rank in (0, 1)]


def test_epoch_means_are_of_all_samples_unless_sync_dist_is_false(reports: Any) -> None:
    # Rank 0 logs 0, 1, 2 with weight 1 and rank 1 logs 10, 11, 12 with weight 2.
    for report in reports:
        assert report["metrics"]["default_epoch"] == report["metrics"]["synced_epoch"]
        assert report["metrics"]["synced_epoch"] == pytest.approx((3 + 2 * 33) / 9)
    assert [report["metrics"]["alone_epoch"] for report in reports] == [1.0, 11.0]


def test_sums_and_extremes_are_those_of_all_ranks_and_large_integers_stay_exact(reports: Any) -> None:
    for report in reports:
        metrics = report["metrics"]
        assert (metrics["sum"], metrics["min"], metrics["max"]) == (36.0, 0.0, 12.0)
        big = (
            next(row["big"] for _, row in report["rows"] if "big" in row) if report["rows"] else 6 * 2**40 + 3
        )
        assert big == 6 * 2**40 + 3


def test_a_group_reduces_among_its_ranks(reports: Any) -> None:
    assert [report["metrics"]["group"] for report in reports] == [6.0, 6.0]


def test_step_values_are_reduced_when_a_row_is_due_and_with_sync_dist_only(reports: Any) -> None:
    step, row = reports[0]["rows"][0]
    assert step == 2
    assert row["synced_step"] == pytest.approx((2 + 2 * 12) / 3)
    assert row["alone_step"] == row["default_step"] == 2.0


def test_step_values_can_be_shared_between_rows_for_a_decision(reports: Any) -> None:
    assert reports[0]["shared"] == reports[1]["shared"] == [pytest.approx((1 + 2 * 11) / 3)]


def test_the_last_step_value_is_that_of_all_ranks_and_reduced_once(reports: Any) -> None:
    assert [report["metrics"]["late"] for report in reports] == [14.0, 14.0]  # 2 and 12, reduced once


def test_hooks_at_the_epochs_end_see_reduced_values_and_log_more(reports: Any) -> None:
    for report in reports:
        assert report["seen"]["synced_epoch"] == report["metrics"]["synced_epoch"]
        assert report["metrics"]["end"] == 3.0


def test_names_that_one_rank_has_logged_reach_the_other(reports: Any) -> None:
    assert [report["metrics"]["only_here"] for report in reports] == [1.0, 1.0]


def test_more_names_than_fit_into_one_message_arrive_in_order(reports: Any) -> None:
    for report in reports:
        assert [report["metrics"][f"many{index}"] for index in range(70)] == [
            index + 0.5 for index in range(70)
        ]


def test_a_rank_without_validation_batches_takes_part_in_metrics(reports: Any) -> None:
    assert [report["metrics"]["metric"] for report in reports] == [1.0, 1.0]
    assert [report["metrics"]["rows"] for report in reports] == [1.0, 1.0]


def test_what_only_rank_zero_logs_is_known_there_and_cannot_be_monitored(reports: Any) -> None:
    assert reports[0]["metrics"]["zero"] == 5.0
    assert "zero" not in reports[1]["metrics"]
    assert "rank_zero_only=True" in reports[0]["refused"]


def test_ranks_that_reduce_other_step_names_than_each_other_are_told_which(reports: Any) -> None:
    for report in reports:
        assert "only some ranks log" in report["error"]
        assert "of_rank_0" in report["error"]
        assert "of_rank_1" in report["error"]


def test_ranks_that_share_a_model_count_once_in_a_sum(reports: Any) -> None:
    assert [report["once"] for report in reports] == [4.0, 4.0]


def test_step_values_are_reduced_at_the_epochs_end_when_no_row_was_due(reports: Any) -> None:
    assert [report["rowless"] for report in reports] == [1.5, 1.5]
