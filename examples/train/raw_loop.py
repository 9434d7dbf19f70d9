"""A loop of your own on Fabric: any device, precision and number of processes, with exact resume.

python examples/train/raw_loop.py [--devices 2] [--precision bf16-mixed]
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from blixt.fabric import Fabric


def spirals(count: int) -> TensorDataset:
    """Two spirals that a line cannot part."""
    turn = torch.rand(count, generator=torch.Generator().manual_seed(0)).sqrt() * 7
    side = torch.arange(count) % 2
    angle = turn + side * torch.pi
    return TensorDataset(torch.stack([turn * angle.cos(), turn * angle.sin()], 1) / 7, side)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", default="auto")
    parser.add_argument("--precision", default="32")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/spirals.pt"))
    options = parser.parse_args()

    fabric = Fabric(devices=options.devices, precision=options.precision)
    fabric.launch()
    fabric.seed_everything(0)
    model = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
    model, optimizer = fabric.setup(model, torch.optim.Adam(model.parameters(), lr=1e-2))
    loader = fabric.setup_dataloaders(DataLoader(spirals(2048), 64, shuffle=True))
    state = {"model": model, "optimizer": optimizer, "loader": loader, "epoch": 0}
    if options.checkpoint.exists():
        fabric.load(options.checkpoint, state)

    right = 0.0
    for epoch in range(state["epoch"], options.epochs):
        loader.set_epoch(epoch)
        hits = torch.zeros(2, device=fabric.device)
        for points, side in loader:
            answer = model(points)
            optimizer.zero_grad()
            fabric.backward(nn.functional.cross_entropy(answer, side))
            fabric.clip_gradients(model, optimizer, max_norm=1.0)
            optimizer.step()
            hits += torch.stack([(answer.argmax(1) == side).sum(), torch.tensor(len(side)).to(side.device)])
        loader.end_epoch()
        state["epoch"] = epoch + 1
        fabric.save(options.checkpoint, state)
        total = fabric.all_reduce(hits, "sum")
        right = float(total[0] / total[1])
        fabric.print(f"epoch {epoch + 1}: {right:.1%} right")
    fabric.print(f"done: {right:.1%} right on {fabric.world_size} process(es)")


if __name__ == "__main__":
    main()
