"""Learn to balance a pole by trial and error: a policy gradient (REINFORCE) on Fabric.

    python examples/fabric/reinforce.py [--devices 2] [--iterations 30]

The pole is gymnasium's CartPole (`pip install gymnasium`): it pays 1 for every step that the pole stands,
at most 500. Every process plays its own games; gradients are averaged, so two processes learn from twice as
many.

The method is from Williams, "Simple statistical gradient-following algorithms for connectionist
reinforcement learning" (1992), with the mean return of the games as its baseline.
"""

import argparse

import gymnasium
import torch
from torch import nn

from blixt.fabric import Fabric


class Policy(nn.Module):
    """From what one sees (4 numbers) to how much one favours each of 2 moves."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2))

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return self.net(seen)


@torch.no_grad()
def play(fabric: Fabric, policy: nn.Module, games: gymnasium.vector.VectorEnv, steps: int) -> tuple:
    """Play `steps` steps of several games at once.

    Returns:
        What was seen, moved and paid, and whether a game ended there; each of shape (steps, games, ...).
    """
    seen, _ = games.reset()
    record: tuple[list, ...] = ([], [], [], [])
    for _ in range(steps):
        now = torch.as_tensor(seen, dtype=torch.float32)
        moves = torch.distributions.Categorical(logits=policy(fabric.to_device(now)).cpu()).sample()
        seen, paid, fell, full, _ = games.step(moves.numpy())
        ends = torch.as_tensor(fell | full)
        for items, item in zip(record, (now, moves, torch.as_tensor(paid), ends), strict=True):
            items.append(item)
    return tuple(torch.stack(items) for items in record)


def returns_of(paid: torch.Tensor, ends: torch.Tensor, discount: float = 0.99) -> torch.Tensor:
    """What was still to be earned after every step of its game."""
    result, later = torch.zeros_like(paid, dtype=torch.float32), torch.zeros(paid.shape[1])
    for step in reversed(range(len(paid))):
        later = paid[step].float() + discount * later * ~ends[step]
        result[step] = later
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", default="auto")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--games", type=int, default=8, help="played at once by each process")
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()

    fabric = Fabric(accelerator="cpu", devices=options.devices, precision=options.precision)
    fabric.launch()
    fabric.seed_everything(1)
    policy = Policy()
    policy, optimizer = fabric.setup(policy, torch.optim.Adam(policy.parameters(), lr=1e-2))
    torch.manual_seed(1 + fabric.global_rank)  # the same policy everywhere, other games
    games = gymnasium.make_vec(
        "CartPole-v1",
        num_envs=options.games,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP},
    )
    games.reset(seed=1 + fabric.global_rank)

    length = 0.0
    for iteration in range(options.iterations):
        seen, moves, paid, ends = play(fabric, policy, games, options.steps)
        returns = returns_of(paid, ends)
        advantage = fabric.to_device((returns - returns.mean()) / (returns.std() + 1e-8))
        chance = torch.distributions.Categorical(logits=policy(fabric.to_device(seen)))
        loss = -(chance.log_prob(fabric.to_device(moves)) * advantage).mean() - 0.01 * chance.entropy().mean()
        optimizer.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(policy, optimizer, max_norm=1.0)
        optimizer.step()
        falls = torch.stack([torch.tensor(float(paid.numel())), ends.sum().float()])
        played, fallen = fabric.all_reduce(falls, "sum").tolist()
        length = min(500.0, played / max(fallen, 1.0))
        if (iteration + 1) % 5 == 0:
            fabric.print(f"iteration {iteration + 1}: the pole stands {length:.0f} steps")
    games.close()
    fabric.print(f"done: {length:.0f} steps on {fabric.world_size} process(es)")


if __name__ == "__main__":
    main()
