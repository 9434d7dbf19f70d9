"""Checkpoints and loaders of several processes: uneven data, other world sizes, sharded files."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from blixt.fabric import CheckpointError
from blixt.trainer import Trainer
from blixt.trainer.checkpoint import newest_checkpoint, read

SCRIPT = """
import json, os, sys, warnings
from pathlib import Path
import torch
from torch.utils.data import DataLoader, IterableDataset
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[2])
from ranks_model import Net, data_of, options
from blixt.fabric import FabricError
from blixt.fabric.strategies import FSDPStrategy
from blixt.trainer import Callback, CombinedLoader, Trainer, seed_everything

out, report = Path(sys.argv[1]), {}
rank = int(os.environ.get("RANK", 0))

class SaveAt(Callback):
    def __init__(self, step, path): self.step, self.path = step, path
    def on_checkpoint_due(self, trainer, module, at_epoch_end):
        if trainer.global_step == self.step and not at_epoch_end:
            trainer.save_checkpoint(self.path)

class Uneven(IterableDataset):
    def __iter__(self):
        for row in range(10 if rank == 0 else 6):
            yield torch.full((4,), float(row))

def fit(loader, ckpt=None, strategy="ddp", **more):
    seed_everything(3)
    module = Net()
    trainer = Trainer(devices=2, strategy=strategy, **options(out, **more))
    trainer.fit(module, loader, ckpt_path=ckpt)
    return trainer, module

def state(trainer, module):
    full = trainer.strategy.module_state(module)
    return [value.full_tensor() if hasattr(value, "full_tensor") else value for value in full.values()]

# data that ends at different places on each rank
trainer, module = fit(DataLoader(Uneven(), 2), max_epochs=2)
report["uneven"] = [len(module.seen), module.last]

# several loaders, shared out and shuffled, and a file for another number of ranks
def several():
    return CombinedLoader({"a": data_of(24, True), "b": data_of(8, True)}, "max_size_cycle")
trainer, whole = fit(several(), max_epochs=2, callbacks=[SaveAt(4, out / "two.ckpt")])
again = fit(several(), ckpt=out / "two.ckpt", max_epochs=2)[1]
report["several"] = again.seen == whole.seen[4:]
report["seen"] = whole.seen

# shards
for kind in ("sharded", "full"):
    make = lambda: FSDPStrategy(state_dict_type=kind)
    path = out / f"{kind}.ckpt"
    trainer, whole = fit(data_of(24, True), strategy=make(), max_epochs=2, callbacks=[SaveAt(4, path)])
    other, again = fit(data_of(24, True), ckpt=path, strategy=make(), max_epochs=2)
    pairs = zip(state(trainer, whole), state(other, again))
    report[kind] = [path.is_dir(), all(torch.equal(a, b) for a, b in pairs), again.seen == whole.seen[4:]]
found = trainer.fabric.broadcast(None)

# a rank without any batch
from torch.utils.data import BatchSampler
class Mine(BatchSampler):
    def __iter__(self): return iter([[0]] * len(self))
    def __len__(self): return 1 - rank
try:
    loader = DataLoader(torch.zeros(2, 4), batch_sampler=Mine(range(2), 1, False))
    fit(loader, use_distributed_sampler=False, max_epochs=1)
except FabricError as error:
    report["empty"] = str(error)
(out / f"report{rank}.json").write_text(json.dumps(report))
"""

MODEL = '''
"""The model of the ranks, and of the test that reads what they saved."""
import torch
from torch import nn
from torch.utils.data import DataLoader
from blixt.trainer import Module

class Net(Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 2))
        self.seen, self.last = [], []

    def training_step(self, batch, batch_idx):
        items = batch.values() if isinstance(batch, dict) else [batch]
        self.seen.append([item[:, 0].tolist() for item in items])
        self.last.append(self.trainer.is_last_batch)
        loss = sum(self.net(item).square().mean() for item in items)
        self.log("loss", loss, on_epoch=True, sync_dist=True, batch_size=1)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.01)

def data_of(rows, shuffle):
    return DataLoader(torch.arange(float(rows)).repeat(4, 1).T.contiguous(), 2, shuffle=shuffle)

def options(folder, **more):
    return {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "default_root_dir": folder,
            "enable_checkpointing": False, "enable_model_summary": False, **more}
'''


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """What two processes did; one launch for all tests, because a launch takes seconds."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "ranks_model.py").write_text(MODEL)
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(folder), str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=480)
    assert result.returncode == 0, result.stderr[-4000:]
    return folder, [json.loads((folder / f"report{rank}.json").read_text()) for rank in (0, 1)]


Reports = tuple[Path, list[dict[str, Any]]]


def test_ranks_whose_data_ends_apart_end_their_epochs_together(reports: Reports) -> None:
    for report in reports[1]:
        assert report["uneven"] == [6, [False, False, True] * 2]


def test_several_shuffled_loaders_go_on_exactly_on_every_rank(reports: Reports) -> None:
    assert [report["several"] for report in reports[1]] == [True, True]


def test_sharded_and_full_checkpoints_of_sharded_modules_go_on_exactly(reports: Reports) -> None:
    for report in reports[1]:
        assert report["sharded"] == [True, True, True]
        assert report["full"] == [False, True, True]


def test_a_rank_without_batches_is_named(reports: Reports) -> None:
    for report in reports[1]:
        assert "has no batch on rank(s) 1, while others have some" in report["empty"]


def test_one_process_goes_on_with_the_data_where_two_were(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ranks = reports
    monkeypatch.syspath_prepend(str(folder))
    import ranks_model  # type: ignore[import-not-found]

    from blixt.trainer import CombinedLoader

    loaders = {"a": ranks_model.data_of(24, True), "b": ranks_model.data_of(8, True)}
    module = ranks_model.Net()
    trainer = Trainer(devices=1, **ranks_model.options(folder, max_epochs=1))
    with pytest.warns(UserWarning, match=r"saved by 2 process\(es\), now there are 1"):
        trainer.fit(module, CombinedLoader(loaders, "max_size_cycle"), ckpt_path=folder / "two.ckpt")
    before = sorted(row for rank in ranks for step in rank["seen"][:4] for row in step[0])
    after = sorted(row for step in module.seen for row in step[0])
    assert sorted([*before, *after]) == list(range(24))


def test_a_sharded_checkpoint_is_read_by_one_process_and_a_torn_one_is_not_picked(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = reports
    monkeypatch.syspath_prepend(str(folder))
    import ranks_model  # type: ignore[import-not-found]

    module = ranks_model.Net()
    trainer = Trainer(devices=1, **ranks_model.options(folder, max_epochs=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, ranks_model.data_of(24, True), ckpt_path=folder / "sharded.ckpt")
    assert trainer.global_step == 4 + 4
    content = read(folder / "sharded.ckpt")
    whole = read(folder / "full.ckpt")["state_dict"]
    assert all(torch.equal(content["state_dict"][name], whole[name]) for name in whole)
    torn = folder / "torn"
    torn.mkdir()
    (folder / "sharded.ckpt").rename(torn / "a.ckpt")
    assert newest_checkpoint(torn) == torn / "a.ckpt"
    for marker in torn.rglob("*"):
        if marker.name == "meta.pt":
            marker.unlink()
    assert newest_checkpoint(torn) is None
    with pytest.raises(CheckpointError):
        read(torn / "a.ckpt")
