"""Checkpoints cross the door both ways, and training goes on from them as if nothing had happened."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from blixt.compat.lightning import folder

SCRIPT = """
import json, sys
import lightning.pytorch as pl
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import DataLoader

torch.set_num_threads(1)
data = torch.randn(24, 32, generator=torch.Generator().manual_seed(1))


class Model(BoringModel):
    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


for line in sys.argv[1:]:
    epochs, out, source = line.split(",")
    torch.manual_seed(5)
    trainer = pl.Trainer(
        max_epochs=int(epochs), accelerator="cpu", limit_val_batches=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )
    model = Model()
    trainer.fit(model, DataLoader(data, batch_size=4), ckpt_path=source or None)
    trainer.save_checkpoint(out)
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    print(json.dumps([model.layer.weight.tolist(), trainer.global_step, rate]))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    """Final weights, steps and rates of four epochs, whole and with a change of sides after two."""
    place = tmp_path_factory.mktemp("crossing")
    (place / "script.py").write_text(SCRIPT)

    def run(side: str, *lines: str) -> None:
        environment = os.environ | {"PYTHONPATH": str(folder()) if side == "ours" else ""}
        command = [sys.executable, "script.py", *lines]
        done = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr
        said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[[")]
        found.update(zip((line.split(",")[1] for line in lines), said, strict=True))

    found: dict[str, list[object]] = {}
    run("real", "4,whole.ckpt,", "2,theirs.ckpt,")
    run("ours", "4,on-theirs.ckpt,theirs.ckpt", "2,ours.ckpt,")
    run("real", "4,on-ours.ckpt,ours.ckpt")
    assert Path(place / "on-ours.ckpt").is_file()
    return found


def test_ours_goes_on_from_a_checkpoint_of_lightning_exactly(runs: dict[str, list[object]]) -> None:
    assert runs["on-theirs.ckpt"] == runs["whole.ckpt"]


def test_lightning_goes_on_from_a_checkpoint_of_ours_exactly(runs: dict[str, list[object]]) -> None:
    assert runs["on-ours.ckpt"] == runs["whole.ckpt"]
