"""Every way to share a model among processes, in a fit: trains like one process, and goes on exactly."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fabric.strategies.ranks import Check, Reports, run_checks
from tests.fabric.strategies.samples import Block, lm_loss
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.data import DataLoader

from blixt.fabric import Parallel
from blixt.fabric.strategies import (
    DeepSpeedStrategy,
    FSDPStrategy,
    ParallelStrategy,
    PipelineStrategy,
    Strategy,
)
from blixt.trainer import Callback, Module, Trainer, seed_everything

STEPS, SAVED_AT, ROWS = 4, 2, 8


class Attention(nn.Module):
    """Causal attention of one head, so that tokens see each other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, 3 * width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (part.unsqueeze(1) for part in self.inner(x).chunk(3, -1))
        return x + scaled_dot_product_attention(q, k, v, is_causal=True).squeeze(1)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Embedding(16, 16), Block(16), Attention(16), Block(16), nn.Linear(16, 16))


class Model(Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return lm_loss(self.net(batch[:, :-1]), batch[:, 1:])

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


class Piped(Model):
    """The forward pass and the loss are the pipeline's."""

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.net(batch[:, :-1], target=batch[:, 1:])


class Ring(Model):
    """Each process has a part of every sequence."""

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        x, y = batch[:, :-1].contiguous(), batch[:, 1:].contiguous()
        strategy: Any = self.trainer.strategy
        with strategy.context_parallel([x, y], [1, 1], restore=False):
            assert x.shape[1] == 4
            return lm_loss(self.net(x), y)


class Manual(Model):
    """Two optimizers in turns, each for half of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.AdamW(part.parameters(), lr=0.01) for part in (self.net[:2], self.net[2:])]


def tokens() -> torch.Tensor:
    return torch.randint(0, 16, (STEPS * ROWS, 9), generator=torch.Generator().manual_seed(3))


def reference(halves: bool = False) -> dict[str, torch.Tensor]:
    """What one process makes of the same batches, without a framework."""
    net = network()
    parts: list[nn.Module] = [net[:2], net[2:]] if halves else [net]
    optimizers = [torch.optim.AdamW(part.parameters(), lr=0.01) for part in parts]
    for batch in tokens().split(ROWS):
        for part, optimizer in zip(parts, optimizers, strict=True):
            net.zero_grad()
            lm_loss(net(batch[:, :-1]), batch[:, 1:]).backward()
            if halves:
                nn.utils.clip_grad_norm_(part.parameters(), 0.5)
            optimizer.step()
    return {f"net.{name}": value for name, value in net.state_dict().items()}


class SaveAt(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_checkpoint_due(self, trainer: Trainer, module: Any, at_epoch_end: bool) -> None:
        if trainer.counters.batches == SAVED_AT and not at_epoch_end:
            trainer.save_checkpoint(self.path)


def fitted(make: Callable[[], Strategy], kind: type[Model], path: Path, resume: bool, **options: Any) -> Any:
    """Weights after a fit, on rank 0, and its trainer."""
    seed_everything(7 if resume else 3)
    strategy = make()
    trainer = Trainer(
        accelerator="cpu",
        devices="auto",
        strategy=strategy,
        max_epochs=1,
        logger=False,
        callbacks=[] if resume else [SaveAt(path)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=path.parent,
        **options,
    )
    module = kind()
    share = 2 if isinstance(strategy, DeepSpeedStrategy) or type(strategy) is FSDPStrategy else 1
    trainer.fit(module, DataLoader(tokens(), ROWS // share), ckpt_path=path if resume else None)
    return {
        name: value.full_tensor() if hasattr(value, "full_tensor") else value
        for name, value in trainer.strategy.module_state(module).items()
    }, trainer


def both(
    rank: int,
    folder: Path,
    make: Callable[[], Strategy],
    kind: type[Model] = Model,
    expected: dict[str, torch.Tensor] | None = None,
    **options: Any,
) -> None:
    """An undisturbed fit is the reference's, and one that goes on from its middle is the same bit by bit."""
    path = folder / "middle.ckpt"
    whole, _ = fitted(make, kind, path, False, **options)
    again, trainer = fitted(make, kind, path, True, **options)
    assert trainer.counters.batches == STEPS
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    if expected is not None and rank == 0:
        for name, value in expected.items():
            torch.testing.assert_close(whole[name], value, rtol=1e-4, atol=1e-5)


def check_tensor_parallel(rank: int, folder: Path) -> None:
    plan = {"net.*.up": "colwise", "net.*.down": "rowwise"}
    both(rank, folder, lambda: ParallelStrategy(Parallel(tp=2), plan=plan), expected=reference())


def check_tensor_parallel_in_shards(rank: int, folder: Path) -> None:
    plan = {"net.*.up": "colwise", "net.*.down": "rowwise"}
    both(rank, folder, lambda: ParallelStrategy(Parallel(tp=2), plan=plan, state_dict_type="sharded"))


def check_context_parallel(rank: int, folder: Path) -> None:
    both(rank, folder, lambda: ParallelStrategy(Parallel(cp=2)), Ring, reference())


def check_pipeline(rank: int, folder: Path) -> None:
    def make() -> Strategy:
        return PipelineStrategy(module="net", loss_fn=lm_loss, microbatches=2)

    both(rank, folder, make, Piped, reference())


def check_deepspeed(rank: int, folder: Path) -> None:
    both(rank, folder, DeepSpeedStrategy, expected=reference())


def check_fsdp_manual(rank: int, folder: Path) -> None:
    both(rank, folder, FSDPStrategy, Manual, reference(halves=True))


def check_fsdp_half(rank: int, folder: Path) -> None:
    both(rank, folder, FSDPStrategy, precision="16-mixed", gradient_clip_val=0.5)


def check_fsdp_float8(rank: int, folder: Path) -> None:
    both(rank, folder, FSDPStrategy, precision="bf16-mixed+float8")


OPTIONAL = {check_deepspeed: "deepspeed", check_fsdp_float8: "torchao"}
CHECKS: list[Check] = [
    check_tensor_parallel,
    check_tensor_parallel_in_shards,
    check_context_parallel,
    check_pipeline,
    check_fsdp_manual,
    check_fsdp_half,
    check_fsdp_float8,
    check_deepspeed,  # last: its engine changes settings of the process
]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """All checks in one launch of two processes, which costs more than most of them."""
    there = [check for check in CHECKS if find_spec(OPTIONAL.get(check, "torch")) is not None]
    return run_checks(2, there, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_a_fit_trains_like_one_process_and_goes_on_exactly(check: Check, two: Reports) -> None:
    package = OPTIONAL.get(check, "torch")
    if find_spec(package) is None:
        pytest.skip(f"the optional package {package} is not installed")
    two.of(check)
