"""DDP: options, accumulation, communication hooks."""

from pathlib import Path

from tests.fabric.strategies.ranks import joined
from tests.fabric.strategies.samples import (
    assert_same_training,
    train,
)
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

from blixt.fabric.strategies import (
    DDPStrategy,
)


def check_ddp_with_all_its_options(rank: int, folder: Path) -> None:
    strategy = joined(
        DDPStrategy(static_graph=True, gradient_as_bucket_view=True, bucket_cap_mb=1, broadcast_buffers=False)
    )
    assert_same_training(strategy, train(strategy))


def check_ddp_accumulation(rank: int, folder: Path) -> None:
    strategy = joined(DDPStrategy())
    assert_same_training(strategy, train(strategy, accumulate=True))
    assert_same_training(strategy, train(strategy, accumulate=True, flush=True))


def check_ddp_comm_hook(rank: int, folder: Path) -> list[float]:
    strategy = joined(DDPStrategy(ddp_comm_hook=fp16_compress_hook))
    return train(strategy)[2]
