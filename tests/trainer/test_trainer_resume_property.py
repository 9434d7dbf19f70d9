"""Whatever the configuration and wherever it was interrupted: resumed and undisturbed runs are the same."""

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from blixt.trainer import Callback, CombinedLoader, Module, Trainer, seed_everything


@dataclass(frozen=True)
class Setup:
    """One configuration of everything that a resume has to get right."""

    rows: int
    batch_size: int
    data: str
    shuffle: bool
    accumulate: int
    schedule: str
    val_every: int | float
    manual: bool
    limit: int | float

    @property
    def window(self) -> int:
        """Batches whose gradients make one step: those of an open window are in no checkpoint."""
        return 1 if self.manual else self.accumulate


setups = st.builds(
    Setup,
    rows=st.integers(5, 12),
    batch_size=st.integers(1, 3),
    data=st.sampled_from(["loader", "list", "cycle", "min", "max", "sequential", "stream"]),
    shuffle=st.booleans(),
    accumulate=st.integers(1, 3),
    schedule=st.sampled_from(["none", "step", "epoch", "plateau"]),
    val_every=st.sampled_from([1.0, 1, 2]),
    manual=st.booleans(),
    limit=st.sampled_from([1.0, 2, 3]),
)


class Net(Module):
    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.setup_of = setup
        self.automatic_optimization = not setup.manual
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.Linear(4, 1))
        self.seen: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x = torch.cat([each.flatten(1) for each in flat(batch)])
        self.seen.append(float(x.sum()))
        loss = self.net(x + 0.1 * torch.rand_like(x)).square().mean()
        self.log("loss", loss, on_step=True, on_epoch=True, batch_size=len(x))
        if not self.automatic_optimization:
            optimizer: Any = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val", self.net(batch[0]).square().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.05)
        kind = self.setup_of.schedule
        if kind == "none":
            return optimizer
        if kind == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
            return {"optimizer": optimizer, "lr_scheduler": plateau, "monitor": "val"}
        steps = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": steps, "interval": kind}}


def flat(batch: Any) -> list[torch.Tensor]:
    if isinstance(batch, torch.Tensor):
        return [batch]
    items = batch.values() if isinstance(batch, dict) else batch
    return [tensor for item in items if item is not None for tensor in flat(item)]


class Rows(IterableDataset[Any]):
    """Rows without a number, with noise from the process's generator."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        for row in self.rows:
            yield row + 0.01 * torch.rand(3)


def data_of(setup: Setup) -> Any:
    rows = torch.arange(setup.rows * 3.0).reshape(-1, 3) / 10

    def loader(part: torch.Tensor) -> DataLoader[Any]:
        return DataLoader(TensorDataset(part), setup.batch_size, shuffle=setup.shuffle)

    if setup.data == "loader":
        return loader(rows)
    if setup.data == "list":
        return [loader(rows), loader(rows[:4])]
    if setup.data == "stream":
        return DataLoader(Rows(rows), setup.batch_size)
    mode: Any = {"cycle": "max_size_cycle", "min": "min_size", "max": "max_size"}.get(setup.data, setup.data)
    return CombinedLoader({"a": loader(rows), "b": loader(rows[:4])}, mode)


class Saves(Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: Trainer, module: Any, *_: Any) -> None:
        if trainer.counters.batch % module.setup_of.window == 0 or trainer.is_last_batch:
            trainer.save_checkpoint(self.folder / f"{trainer.counters.batches:02d}-hook.ckpt")

    def on_checkpoint_due(self, trainer: Trainer, module: Any, at_epoch_end: bool) -> None:
        name = f"{trainer.counters.batches:02d}-{'end' if at_epoch_end else 'step'}.ckpt"
        trainer.save_checkpoint(self.folder / name)


def run(setup: Setup, folder: Path, seed: int, ckpt: Path | None = None) -> tuple[Trainer, Net]:
    seed_everything(seed)
    module = Net(setup)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        max_epochs=2,
        accumulate_grad_batches=setup.window,
        val_check_interval=setup.val_every,
        limit_train_batches=setup.limit,
        callbacks=[Saves(folder)] if ckpt is None else [],
    )
    val = DataLoader(TensorDataset(torch.linspace(-1, 1, 12).reshape(4, 3)), 2, shuffle=setup.shuffle)
    trainer.fit(module, data_of(setup), val, ckpt_path=ckpt)
    return trainer, module


@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(setup=setups, picks=st.lists(st.integers(0, 99), min_size=1, max_size=3))
def test_a_resumed_run_sees_the_same_data_and_ends_with_the_same_weights(
    setup: Setup, picks: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "DataLoader cannot tell its position")
        folder = Path(name)
        whole, expected = run(setup, folder, seed=1)
        files = sorted(folder.glob("*.ckpt"))
        for pick in picks:
            file = files[pick % len(files)]
            trainer, module = run(setup, folder, seed=2, ckpt=file)
            done = int(file.name[:2])
            assert module.seen == expected.seen[done:], file.name
            pairs = zip(module.state_dict().values(), expected.state_dict().values(), strict=True)
            assert all(torch.equal(mine, other) for mine, other in pairs), file.name
            if done < whole.counters.batches:
                assert trainer.counters == whole.counters, file.name
            metrics, wanted = trainer.callback_metrics, whole.callback_metrics
            assert {name: float(value) for name, value in metrics.items()} == {
                name: float(value) for name, value in wanted.items()
            }, file.name
