"""Two processes train like one with the doubled batch, stop together and resume exactly."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from .samples import make_data

SCRIPT = '''
import json, sys
from pathlib import Path
import torch
from torch.utils.data import DataLoader, IterableDataset
sys.path.insert(0, sys.argv[3])
from samples import Classifier, make_data
from blixt.trainer import Callback, ModelCheckpoint, Trainer, seed_everything

out, mode = Path(sys.argv[1]), sys.argv[2]

class Ready(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == 20:
            (out / f"ready{trainer.global_rank}").touch()

class Stream(IterableDataset):
    """Divides itself, as streamed datasets do."""
    def __init__(self): self.position = 0
    def __iter__(self):
        import os
        rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        data = make_data()
        mine = range(rank, len(data), world)
        while self.position < len(mine):
            self.position += 1
            yield data[mine[self.position - 1]]
        self.position = 0
    def state_dict(self): return {"position": self.position}
    def load_state_dict(self, state): self.position = state["position"]

class Net(Classifier):
    def validation_step(self, batch, batch_idx):
        self.log("seen", float(len(batch[0])), reduce_fx="sum", sync_dist=True)
        self.log("val_loss", torch.nn.functional.cross_entropy(self(batch[0]), batch[1]), sync_dist=True)
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("shared", loss, on_step=True, on_epoch=True, sync_dist=True)
        return loss

def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])

def run(folder, data=None, **options):
    seed_everything(3)
    module = Net(dropout=0.0 if mode == "compare" else 0.2)
    data = data if data is not None else DataLoader(make_data(), 4, shuffle=mode != "compare")
    resume = options.pop("ckpt_path", None)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", devices=2, default_root_dir=folder, num_sanity_val_steps=0,
                      **quiet, **options)
    val = None if mode == "stop" else DataLoader(make_data(7), 2)
    trainer.fit(module, data, val, ckpt_path=resume)
    return trainer, module

if mode == "compare":
    trainer, module = run(out / "a", max_epochs=2)
    gathered = trainer.fabric.all_gather(weights(module))
    metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
    streamed, other = run(out / "s", data=DataLoader(Stream(), 4), max_epochs=2)
    if trainer.is_global_zero:
        torch.save({"weights": weights(module), "stream": weights(other)}, out / "weights.pt")
        report = {"same": bool(torch.equal(gathered[0], gathered[1])), "metrics": metrics,
                  "steps": trainer.global_step}
        (out / "report.json").write_text(json.dumps(report))
elif mode == "resume":
    def loaders():
        return {"map": None, "stream": DataLoader(Stream(), 4)}
    same = {}
    for kind in ("map", "stream"):
        whole = run(out / kind / "whole", data=loaders()[kind], max_epochs=2)[1]
        saver = ModelCheckpoint(out / kind / "part", every_n_train_steps=3)
        run(out / kind, data=loaders()[kind], max_steps=3, callbacks=[saver])
        again = run(out / kind, data=loaders()[kind], max_epochs=2, ckpt_path=saver.best_model_path)[1]
        same[kind] = bool(torch.equal(weights(whole), weights(again)))
        rank = again.global_rank
    (out / f"same{rank}.json").write_text(json.dumps(same))
else:
    run(out, max_epochs=-1, callbacks=[Ready()])
'''

HERE = Path(__file__).parent


def command(folder: Path, mode: str) -> list[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    return [sys.executable, str(script), str(folder), mode, str(HERE)]


def run(folder: Path, mode: str) -> None:
    result = subprocess.run(command(folder, mode), capture_output=True, text=True, timeout=480)
    assert result.returncode == 0, result.stderr


def one_process_weights() -> torch.Tensor:
    """The same training by hand, with the batches of both ranks together."""
    from blixt.trainer import seed_everything

    from .samples import Classifier

    seed_everything(3)
    module = Classifier(dropout=0.0)
    configured: Any = module.configure_optimizers()
    x, y = make_data().tensors
    for _ in range(2):
        for rows in torch.arange(40).split(8):
            loss = torch.nn.functional.cross_entropy(module(x[rows]), y[rows])
            configured["optimizer"].zero_grad()
            loss.backward()
            configured["optimizer"].step()
            configured["lr_scheduler"]["scheduler"].step()
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def test_two_ranks_train_like_one_with_the_doubled_batch_and_agree_on_metrics(tmp_path: Path) -> None:
    run(tmp_path, "compare")
    report = json.loads((tmp_path / "report.json").read_text())
    saved = torch.load(tmp_path / "weights.pt")
    assert report["same"]
    assert report["steps"] == 10
    assert report["metrics"]["seen"] == 7.0  # evaluation is not padded: seven samples count seven times
    torch.testing.assert_close(saved["weights"], one_process_weights())
    torch.testing.assert_close(saved["stream"], one_process_weights())


def test_two_ranks_resume_exactly_from_maps_and_from_streams(tmp_path: Path) -> None:
    run(tmp_path, "resume")
    for rank in (0, 1):
        assert json.loads((tmp_path / f"same{rank}.json").read_text()) == {"map": True, "stream": True}


def test_sigterm_lets_both_ranks_leave_at_the_same_step_with_a_checkpoint(tmp_path: Path) -> None:
    process = subprocess.Popen(command(tmp_path, "stop"), stdout=subprocess.PIPE, text=True)
    tick, deadline = threading.Event(), time.monotonic() + 400
    while not all((tmp_path / f"ready{rank}").exists() for rank in (0, 1)):
        assert time.monotonic() < deadline
        assert process.poll() is None
        tick.wait(0.02)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=480)
    assert process.returncode == 143
    assert "(SIGTERM)" in output
    found = list(tmp_path.rglob("last.ckpt"))
    assert len(found) == 1
    content = torch.load(found[0], weights_only=True)
    assert content["global_step"] >= 20
    positions = [rank["loader"]["batches"] for rank in content["blixt"]["ranks"]]
    assert positions[0] == positions[1] == content["blixt"]["counters"]["batch"]


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to a process of its own")
def test_sigterm_to_a_single_process_saves_and_exits_with_143(tmp_path: Path, trainer: Any) -> None:
    from blixt.trainer import Callback

    from .samples import Classifier, make_loader

    class Terminate(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 13:
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    run = trainer(max_epochs=9, enable_checkpointing=True, callbacks=[Terminate()])
    with pytest.raises(SystemExit) as ended:
        run.fit(Classifier(), make_loader())
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] in (13, 14)
    again = trainer(max_epochs=2)
    again.fit(Classifier(), make_loader(), ckpt_path="auto")
    assert again.global_step == 20
