"""What two processes compute through the Trainer is what one computes on their batches together."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = '''
import itertools, json, os, signal, sys
from pathlib import Path
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from blixt.fabric import ConfigError, FabricError
from blixt.trainer import Module, Trainer
torch.set_num_threads(1)
out, devices = Path(sys.argv[1]), int(sys.argv[2])
quiet = dict(accelerator="cpu", devices=devices, logger=False, enable_checkpointing=False, max_epochs=2,
             enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
             use_distributed_sampler=True)

def data(rows=16):
    x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, x.sum(1, keepdim=True), torch.arange(1.0, rows + 1))

def loader(rows=16):
    return DataLoader(data(rows), 4 // devices)

class Net(Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 1)
    def error(self, batch):
        return (self.head(torch.tanh(self.body(batch[0]))) - batch[1]).pow(2)
    def training_step(self, batch, batch_idx):
        return self.error(batch).mean()
    def validation_step(self, batch, batch_idx):
        self.log("seen", float(len(batch[0])), reduce_fx="sum")
        self.log("error", self.error(batch).mean(), batch_size=len(batch[0]))
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)

class Tokens(Net):
    """Rows of different weight, as sequences of different length have."""
    def training_step(self, batch, batch_idx):
        weights = batch[2]
        return {"loss": (self.error(batch)[:, 0] * weights).sum() / weights.sum(), "weight": weights.sum()}

class Gan(Net):
    """Two optimizers in turns, one gathering over two backwards."""
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
    def training_step(self, batch, batch_idx):
        first, second = self.optimizers()
        for optimizer in (first, second):
            with optimizer.toggle_model():
                self.manual_backward(self.error(batch).mean())
                if optimizer is second:
                    self.manual_backward(0.5 * self.error(batch).mean())
                self.clip_gradients(optimizer, 1.0, "norm")
                optimizer.step()
                optimizer.zero_grad()
    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), lr=0.05) for part in (self.head, self.body)]

def weights(trainer, module):
    state = trainer.strategy.module_state(module)
    return [float(v) for name in sorted(state) for v in torch.as_tensor(state[name]).flatten()]

found = {}
cases = {
    "plain": (Net, {}),
    "accumulate and clip": (Net, {"accumulate_grad_batches": 3, "gradient_clip_val": 0.5}),
    "clip values": (Net, {"gradient_clip_val": 0.1, "gradient_clip_algorithm": "value"}),
    "tokens": (Tokens, {"accumulate_grad_batches": 2}), "manual": (Gan, {}),
}
if devices == 2:
    for name in ("plain", "accumulate and clip", "tokens"):
        kind, options = cases[name]
        cases["fsdp " + name] = (kind, {**options, "strategy": "fsdp"})
for name, (kind, options) in cases.items():
    module, trainer = kind(), Trainer(**{**quiet, **options})
    trainer.fit(module, loader())
    found[name] = weights(trainer, module)
    if name == "manual":
        found["manual steps"] = trainer.global_step
if devices == 2:
    class Skip(Net):
        def training_step(self, batch, batch_idx):
            return None
    try:
        Trainer(**quiet).fit(Skip(), loader())
    except ConfigError as error:
        found["skip"] = str(error)
trainer, module = Trainer(**quiet), Net()
found["validate"] = trainer.validate(module, loader(13), verbose=False)[0]
found["division"] = trainer.distributed_sampler_kwargs
if devices == 2:
    from blixt.fabric import agree
    class Stopping(Net):
        ranks = (0, 1)
        def training_step(self, batch, batch_idx):
            if trainer.global_step == 2 and trainer.global_rank in self.ranks:
                trainer.should_stop = True
            return super().training_step(batch, batch_idx)
    class Half(Stopping):
        ranks = (1,)
    for kind, agree.PATIENCE_S in ((Stopping, 60.0), (Half, 0.5)):  # nobody comes when a half wants to stop
        trainer = Trainer(**{**quiet, "max_epochs": 4000})
        trainer.fit(kind(), loader(), loader())
        steps = [None, None]
        torch.distributed.all_gather_object(steps, [trainer.global_step, trainer.should_stop])
        found[kind.__name__] = steps
    class Long:
        """A validation that nobody waits for."""
        def __len__(self):
            return 10**7
        def __iter__(self):
            return itertools.repeat(next(iter(loader())), len(self))
    class Preempted(Net):
        batches = 0
        def validation_step(self, batch, batch_idx):
            self.batches += 1
            if trainer.global_rank == 1 and self.batches == 3:
                os.kill(os.getpid(), signal.SIGTERM)
    trainer, module = Trainer(**{**quiet, "default_root_dir": out}), Preempted()
    try:
        trainer.fit(module, loader(), Long())
    except SystemExit as left:
        places = [None, None]
        torch.distributed.all_gather_object(places, [left.code, trainer.global_step, module.batches])
        found["preempted"] = [*places, torch.load(out / "checkpoints" / "last.ckpt")["global_step"]]
    trainer = Trainer(**{**quiet, "strategy": "fsdp"})
    found["fsdp validate"] = [trainer.validate(Net(), loader(n), verbose=False)[0] for n in (13, 9)]
    class Unequal(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield from data(3 + 2 * trainer.global_rank)
    found["fsdp unknown"] = trainer.validate(Net(), DataLoader(Unequal(), 1), verbose=False)[0]
    try:
        own = [torch.utils.data.default_collate([row]) for row in data(4 + trainer.global_rank)]
        trainer.validate(Net(), own, verbose=False)
    except FabricError as error:
        found["fsdp refused"] = str(error)
else:
    found["validate 9"] = trainer.validate(module, loader(9), verbose=False)[0]
if trainer.is_global_zero:
    (out / f"{devices}.json").write_text(json.dumps(found))
'''

SPAWN = """
import json, sys
from pathlib import Path
import torch
from blixt.trainer import Callback, Trainer
from blixt.trainer.boring import BoringModel

class Count(Callback):
    batches = 0
    def on_train_batch_end(self, *_): self.batches += 1
    def state_dict(self): return {"batches": self.batches}
    def load_state_dict(self, state): self.batches = state["batches"]

class Net(BoringModel):
    def training_step(self, batch, batch_idx):
        self.log("loss", 1.5)
        return super().training_step(batch, batch_idx)

if __name__ == "__main__":
    torch.set_num_threads(1)
    count, module = Count(), Net()
    before = module.layer.weight.detach().clone()
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy=sys.argv[2], logger=False, max_epochs=1, callbacks=count,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        limit_train_batches=3, limit_val_batches=1,
    )
    trainer.fit(module)
    metric = float(trainer.callback_metrics.get("loss", 0))
    moved = not torch.equal(before, module.layer.weight)
    rows = trainer.validate(module, verbose=False) if sys.argv[2] == "ddp_fork" else [{}]
    Path(sys.argv[1]).write_text(json.dumps({
        "moved": moved, "steps": trainer.global_step, "counted": count.batches, "rows": len(rows),
        "epoch": trainer.current_epoch, "metric": metric, "status": trainer.state.status.value,
    }))
"""


def run(folder: Path, text: str, *arguments: str) -> None:
    script = folder / "script.py"
    script.write_text(text)
    result = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=240, cwd=folder
    )
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.fixture(scope="module")
def found(tmp_path_factory: Any) -> dict[int, Any]:
    """The same script with one process and with two (about 8 s: one launch for all cases)."""
    folder = tmp_path_factory.mktemp("ranks")
    for devices in (1, 2):
        run(folder, SCRIPT, str(folder), str(devices))
    return {devices: json.loads((folder / f"{devices}.json").read_text()) for devices in (1, 2)}


@pytest.mark.parametrize("case", ["plain", "accumulate and clip", "tokens", "manual"])
def test_two_processes_move_the_weights_as_one_does(case: str, found: dict[int, Any]) -> None:
    assert found[2][case] == pytest.approx(found[1][case], abs=1e-5)


def test_clipping_by_value_bounds_the_averaged_gradients(found: dict[int, Any]) -> None:
    assert found[2]["clip values"] == pytest.approx(found[1]["clip values"], abs=1e-5)


@pytest.mark.parametrize("case", ["plain", "accumulate and clip", "tokens"])
def test_sharded_parameters_train_like_whole_ones(case: str, found: dict[int, Any]) -> None:
    assert found[2][f"fsdp {case}"] == pytest.approx(found[1][case], abs=1e-5)


def test_every_step_of_every_optimizer_counts(found: dict[int, Any]) -> None:
    assert found[1]["manual steps"] == found[2]["manual steps"] == 2 * 2 * 4


def test_all_ranks_that_want_to_stop_stop_at_once(found: dict[int, Any]) -> None:
    assert found[2]["Stopping"] == [[3, True], [3, True]]


def test_one_rank_that_wants_to_stop_ends_the_run_on_all_at_one_step(found: dict[int, Any]) -> None:
    (first, _), (second, _) = found[2]["Half"]
    assert first == second
    assert 3 < first < 4000 * 4


def test_a_signal_ends_a_long_validation_on_all_ranks_at_one_batch(found: dict[int, Any]) -> None:
    first, second, saved = found[2]["preempted"]
    assert first == second
    assert first[:2] == [143, saved]
    assert 3 <= first[2] < 10**7


def test_sharded_parameters_see_each_sample_once_in_a_validation_of_uneven_shares(
    found: dict[int, Any],
) -> None:
    assert found[2]["fsdp validate"][0] == pytest.approx(found[1]["validate"], abs=1e-5)
    assert found[2]["fsdp validate"][1] == pytest.approx(found[1]["validate 9"], abs=1e-5)


def test_sharded_parameters_end_a_validation_together_whose_length_nobody_knows(
    found: dict[int, Any],
) -> None:
    assert found[2]["fsdp unknown"]["seen"] == 2 * 3


def test_batches_that_only_some_processes_have_are_refused_where_each_forward_needs_all(
    found: dict[int, Any],
) -> None:
    assert "4 to 5 batches of the val data" in found[2]["fsdp refused"]


def test_a_rank_must_not_skip_its_batch(found: dict[int, Any]) -> None:
    assert "would leave the others waiting" in found[2]["skip"]


def test_a_sampler_of_ones_own_learns_how_to_divide(found: dict[int, Any]) -> None:
    assert found[1]["division"] is None
    assert found[2]["division"] == {"num_replicas": 2, "rank": 0}


def test_evaluation_sees_every_sample_once(found: dict[int, Any]) -> None:
    assert found[1]["validate"]["seen"] == found[2]["validate"]["seen"] == 13
    assert found[2]["validate"]["error"] == pytest.approx(found[1]["validate"]["error"], abs=1e-5)


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork"])
def test_what_processes_of_a_call_computed_comes_back(strategy: str, tmp_path: Path) -> None:
    # Two calls of two processes, one with imports of its own: about 8 s.
    run(tmp_path, SPAWN, str(tmp_path / "out.json"), strategy)
    found = json.loads((tmp_path / "out.json").read_text())
    expected = {"moved": True, "steps": 3, "counted": 3, "epoch": 1, "metric": 1.5, "rows": 1}
    assert found == {**expected, "status": "finished"}
