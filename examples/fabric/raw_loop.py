"""A loop of your own on Fabric: any device, precision and number of processes, with exact resume.

    python examples/fabric/raw_loop.py [--devices 2] [--precision bf16-mixed] [--strategy fsdp]

It tells the 1,797 handwritten digits apart that come with scikit-learn (`pip install scikit-learn`).
Interrupt it with Ctrl-C and start it again: it goes on after the last epoch that was saved.
"""

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from blixt.fabric import CSVLogger, Fabric, capture_rng, restore_rng


def digits() -> tuple[torch.utils.data.Dataset, torch.utils.data.Dataset]:
    images, labels = load_digits(return_X_y=True)
    pictures = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
    train, test = random_split(pictures, [1500, 297], torch.Generator().manual_seed(0))
    return train, test


def accuracy(fabric: Fabric, model: nn.Module, loader: DataLoader) -> float:
    model.eval()
    hits = torch.zeros(2, device=fabric.device)
    with torch.no_grad():
        for images, labels in loader:
            right = (model(images).argmax(1) == labels).sum()
            hits += torch.stack([right, torch.tensor(len(labels), device=fabric.device)])
    model.train()
    right, count = fabric.all_reduce(hits, "sum").tolist()
    return right / count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", default="auto")
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path("runs/raw_loop"))
    options = parser.parse_args()

    logger = CSVLogger(options.folder, version="logs", name="")
    fabric = Fabric(
        devices=options.devices, strategy=options.strategy, precision=options.precision, loggers=logger
    )
    fabric.launch()
    fabric.seed_everything(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, 10))
    model, optimizer = fabric.setup(model, torch.optim.Adam(model.parameters(), lr=3e-3))
    train, test = digits()
    loader = fabric.setup_dataloaders(DataLoader(train, 64, shuffle=True))
    judge = fabric.make_loader(DataLoader(test, 256), even=False)  # nobody judges a digit twice

    checkpoint = options.folder / "state.pt"
    state = {"model": model, "optimizer": optimizer, "loader": loader, "epoch": 0, "rng": capture_rng()}
    if checkpoint.exists():
        fabric.load(checkpoint, state)
        restore_rng(state["rng"])
    for epoch in range(state["epoch"], options.epochs):
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            fabric.backward(loss)
            fabric.clip_gradients(model, optimizer, max_norm=1.0)
            optimizer.step()
        score = accuracy(fabric, model, judge)
        fabric.log_dict({"loss": loss, "accuracy": score}, step=epoch)
        fabric.print(f"epoch {epoch + 1}: {score:.1%} right")
        state.update(epoch=epoch + 1, rng=capture_rng(fabric.device))
        fabric.save(checkpoint, state)
    logger.finalize("success")
    fabric.print(f"done on {fabric.world_size} process(es)")


if __name__ == "__main__":
    main()
