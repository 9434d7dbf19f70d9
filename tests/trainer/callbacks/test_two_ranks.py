"""Callbacks decide alike on all ranks, although the ranks see different numbers and clocks."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = '''
import json, sys, time
from pathlib import Path
import torch
from torch import nn
from torch.utils.data import DataLoader
sys.path.insert(0, sys.argv[2])
from tests.trainer.samples import Classifier, make_data
from blixt.trainer import (Callback, EarlyStopping, EMAWeightAveraging, LearningRateFinder,
                           ModelCheckpoint, SpikeDetection,
                           StochasticWeightAveraging, Timer, Trainer, TrainingSpikeException, Tuner,
                           seed_everything)
from blixt.trainer.summary import ModelSummary
from blixt.trainer.callbacks.timed import TimedDecision

torch.set_num_threads(1)
out, seen = Path(sys.argv[1]), {}

class Normed(Classifier):
    """Each rank logs a score of its own, which nobody reduces."""
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
    def on_validation_epoch_end(self):
        mine = [[0.5, 0.2, 0.9], [0.1, 0.8, 0.7]][self.trainer.global_rank][self.current_epoch]
        self.log("score", mine, sync_dist=False)

def make(callbacks, epochs, **options):
    saves = any(isinstance(c, ModelCheckpoint) for c in callbacks)
    return Trainer(accelerator="cpu", devices=2, max_epochs=epochs, logger=False, callbacks=callbacks,
                   enable_checkpointing=saves, enable_progress_bar=False, enable_model_summary=False,
                   num_sanity_val_steps=0, default_root_dir=out, **options)

def run(callbacks, module=None, epochs=3, ckpt_path=None, **options):
    seed_everything(3)
    module = module if module is not None else Normed()
    trainer = make(callbacks, epochs, **options)
    data, val = DataLoader(make_data(), 4), DataLoader(make_data(8), 4)
    trainer.fit(module, data, val, ckpt_path=ckpt_path)
    return trainer, module

saver = ModelCheckpoint(out / "c", "{epoch}", monitor="score", save_top_k=2, save_last=True)
trainer, _ = run([saver])
rank, fabric = trainer.global_rank, trainer.fabric
seen["best"] = [Path(p).name for p in sorted(saver.best_k_models)]
seen["score"] = float(saver.best_model_score)
seen["files"] = sorted(p.name for p in (out / "c").iterdir())

class OneIsStuck(Classifier):
    def on_validation_epoch_end(self):
        self.log("score", 1.0 if self.trainer.global_rank else -float(self.current_epoch), sync_dist=False)

stopping = EarlyStopping("score", patience=2)
trainer, _ = run([stopping], OneIsStuck(), epochs=9)
seen["stopped"] = [trainer.current_epoch, int(stopping.stopping_reason), stopping.stopping_reason_message]

class Late(Timer):
    """The time of rank 0 is up soon, that of the other hardly ever."""
    def setup(self, trainer, module, stage):
        self._limit_s = 3600.0 if trainer.global_rank else 0.3

trainer, _ = run([Late("1h")], Classifier(), epochs=-1)
seen["late"] = trainer.global_step

asked, remaining = [], [4.0]
broadcast = fabric.broadcast
def counting(value, *rest):
    asked.append(1)
    return broadcast(value, *rest)
fabric.broadcast = counting
decision = TimedDecision(fabric, lambda: remaining[0])
step = 0
while not decision.due(step):
    step += 1
    remaining[0] -= 0.02 if rank == 0 else 0.0
    time.sleep(0.0002)
fabric.broadcast = broadcast
seen["decided"] = step
seen["asked"] = len(asked)

for name, callback in (("ema", EMAWeightAveraging(decay=0.9)), ("swa", StochasticWeightAveraging(0.01, 1))):
    _, module = run([callback], epochs=2)
    # An average of buffers is of each rank's own statistics; SWA makes new ones of all data.
    tensors = module.parameters() if name == "ema" else module.state_dict().values()
    gathered = fabric.all_gather(torch.cat([v.detach().flatten().float() for v in tensors]))
    seen[name] = bool(torch.equal(gathered[0], gathered[1]))

class Counts(Classifier):
    lr = 0.1
    def on_train_start(self):
        self.counted = ModelSummary(self).total_parameters
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)

searched = []
for callbacks in ([LearningRateFinder(num_training_steps=12, update_attr=False)], []):
    seed_everything(3)
    _, module = run(callbacks, Counts(0.0), 1)
    searched.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
seen["searched"] = bool(torch.equal(*searched))

class Jumps(Classifier):
    def training_step(self, batch, batch_idx):
        factor = 100.0 if batch_idx == 3 and self.trainer.global_rank == 1 else 1.0
        return super().training_step(batch, batch_idx) * factor

try:
    run([SpikeDetection()], Jumps(), epochs=1)
except TrainingSpikeException as error:
    seen["spike"] = error.batch_idx
def sharded(path=None):
    saver = ModelCheckpoint(out / "sharded", "{epoch}", save_top_k=-1, enable_version_counter=False)
    averaging = EMAWeightAveraging(decay=0.9)
    trainer, module = run([averaging, saver], Counts(0.0), 2, strategy="fsdp", ckpt_path=path)
    return module, trainer.fabric.strategy.module_state(module)

module, whole = sharded()
_, resumed = sharded(str(out / "sharded" / "epoch=0.ckpt"))
seen["counted"] = module.counted
seen["resumed"] = all(torch.equal(whole[name], resumed[name]) for name in whole)
module = Counts(0.0)
before = torch.cat([p.detach().flatten() for p in module.parameters()])
trainer = make([], 1, strategy="fsdp")
Tuner(trainer).lr_find(module, DataLoader(make_data(), 4), num_training=15)
after = trainer.fabric.strategy.module_state(module)
after = torch.cat([after[name].flatten() for name, _ in module.named_parameters()]) if after else before
seen["restored"] = bool(torch.equal(before, after))
(out / f"seen{rank}.json").write_text(json.dumps(seen))
'''


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank saw in one launch."""
    folder = tmp_path_factory.mktemp("ranks")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    root = str(Path(__file__).parents[3])
    result = subprocess.run(
        [sys.executable, str(script), str(folder), root], capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, result.stderr
    return [json.loads((folder / f"seen{rank}.json").read_text()) for rank in (0, 1)]


def test_both_ranks_rank_checkpoints_by_the_numbers_of_rank_zero(seen: Any) -> None:
    for rank in seen:
        assert rank["best"] == ["epoch=0.ckpt", "epoch=1.ckpt"]
        assert rank["score"] == pytest.approx(0.2)
        assert rank["files"] == ["epoch=0.ckpt", "epoch=1.ckpt", "last.ckpt"]


def test_all_stop_when_one_of_them_has_no_patience_left(seen: Any) -> None:
    assert [rank["stopped"] for rank in seen] == [
        [3, 3, "another rank wanted to stop"],
        [3, 3, "score did not improve on 1 in 2 checks"],
    ]


def test_the_clock_of_rank_zero_counts_for_all(seen: Any) -> None:
    assert seen[0]["late"] == seen[1]["late"] >= 1


def test_a_decision_by_the_clock_asks_rarely_and_falls_at_the_same_step(seen: Any) -> None:
    assert seen[0]["decided"] == seen[1]["decided"] >= 200
    assert seen[0]["asked"] == seen[1]["asked"] < seen[0]["decided"] / 3


def test_averaged_weights_and_their_statistics_are_the_same_on_all_ranks(seen: Any) -> None:
    assert [(rank["ema"], rank["swa"]) for rank in seen] == [(True, True)] * 2


def test_a_spike_on_one_rank_ends_the_run_on_all(seen: Any) -> None:
    assert [rank["spike"] for rank in seen] == [3, 3]


def test_sharded_weights_are_averaged_counted_whole_and_put_back_by_the_tuner(seen: Any) -> None:
    for rank in seen:
        assert rank["counted"] == 178
        assert rank["resumed"]
        assert rank["restored"]


def test_a_search_for_the_rate_leaves_training_as_it_was(seen: Any) -> None:
    assert [rank["searched"] for rank in seen] == [True, True]
