"""A small language model with everything that makes sharding hard, and the training it is compared on."""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import AdamW, Optimizer

from blixt.fabric.strategies import SingleDeviceStrategy, Strategy

CPU = torch.device("cpu")
STEPS = 4


class Block(nn.Module):
    """A residual block whose sizes no number of ranks divides evenly, or each does."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.relu(self.up(self.norm(x))))


class TiedNet(nn.Module):
    """Embedding and head share their weight; 11 rows do not divide; `scale` is used by a method alone."""

    def __init__(self, width: int = 6, blocks: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, width)
        self.layers = nn.ModuleList(Block(width) for _ in range(blocks))
        self.head = nn.Linear(width, 11, bias=False)
        self.head.weight = self.embed.weight
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        """Next-token loss, as a Trainer's module has it."""
        self.seen += 1
        return lm_loss(self(batch[:, :-1]) * self.scale, batch[:, 1:])


def lm_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of all tokens."""
    return cross_entropy(logits.flatten(0, 1), target.flatten())


def chain(width: int = 6, blocks: int = 4) -> nn.Sequential:
    """The same without ties, as a sequence for pipelines."""
    inner = [Block(width) for _ in range(blocks)]
    return nn.Sequential(nn.Embedding(11, width), *inner, nn.Linear(width, 11))


def batches(steps: int = STEPS) -> torch.Tensor:
    """Token batches, 8 samples of 7 tokens each."""
    return torch.randint(0, 11, (steps, 8, 7), generator=torch.Generator().manual_seed(3))


def train(
    strategy: Strategy, *, accumulate: bool = False, flush: bool = False, max_norm: float = 0.5
) -> tuple[nn.Module, Optimizer, list[float]]:
    """Train a TiedNet as a Trainer does; returns it, its optimizer and the norms before clipping.

    `accumulate` divides each batch into two windows; with `flush` the second is unforeseen as well.
    """
    torch.manual_seed(1)
    module = strategy.shard(TiedNet(), CPU)
    optimizer = AdamW(module.parameters(), lr=0.01)
    run, no_sync = strategy.forward_of(module, "training_step", CPU)
    norms: list[float] = []
    for batch in batches():
        mine = batch.chunk(strategy.data_parallel_size)[strategy.data_parallel_rank]
        optimizer.zero_grad()
        if accumulate:
            first, second = mine.chunk(2)
            with no_sync():
                strategy.backward(run(first, 0) / 2)
            if flush:
                with no_sync():
                    strategy.backward(run(second, 0) / 2)
                strategy.sync_gradients(module.parameters())
            else:
                strategy.backward(run(second, 0) / 2)
        else:
            strategy.backward(run(mine, 0))
        norms.append(float(strategy.clip_norm(module.parameters(), max_norm)))
        strategy.step(optimizer)
    return module, optimizer, norms


def reference() -> tuple[dict[str, Any], dict[str, Any], list[float]]:
    """What one process makes of the same training: weights, optimizer state, norms."""
    module, optimizer, norms = train(SingleDeviceStrategy())
    return module.state_dict(), optimizer.state_dict(), norms


def assert_same_training(strategy: Strategy, trained: tuple[nn.Module, Optimizer, list[float]]) -> None:
    """Weights, optimizer state and norms are those of one process; call it on all ranks."""
    weights, states, norms = reference()
    module, optimizer, own_norms = trained
    torch.testing.assert_close(torch.tensor(own_norms), torch.tensor(norms), rtol=1e-4, atol=1e-5)
    own_weights = strategy.module_state(module)
    own_states = strategy.optimizer_state(module, optimizer)
    if strategy.world.rank == 0:
        assert list(own_weights) == list(weights)
        same(own_weights, {name: value for name, value in weights.items() if name != "seen"})
        assert own_states["param_groups"] == states["param_groups"]
        same(own_states["state"], states["state"])


def same(own: Any, expected: Any) -> None:
    """Nested dicts with close tensors; `own` may have more."""
    for key, value in expected.items():
        if isinstance(value, dict):
            same(own[key], value)
        else:
            torch.testing.assert_close(own[key], value, rtol=1e-3, atol=1e-4)
