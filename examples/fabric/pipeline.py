"""Handwritten digits through a pipeline of two processes.

    python examples/fabric/pipeline.py --devices 2 --schedule 1f1b

Each rank has half of the layers; a batch goes through them in four parts. The loop is any Fabric loop, but
that the model is called with its target and returns the loss. Needs scikit-learn, which carries the digits.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from blixt.fabric import Fabric, PipelineStrategy


def network() -> nn.Sequential:
    """A perceptron; a sequence is divided into stages with like numbers of parameters."""
    hidden = [nn.Sequential(nn.Linear(64, 64), nn.ReLU()) for _ in range(4)]
    return nn.Sequential(*hidden, nn.Linear(64, 10))


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--devices", type=int, default=2)
    options.add_argument("--schedule", default="1f1b", help="1f1b, gpipe or interleaved1f1b")
    options.add_argument("--epochs", type=int, default=3)
    args = options.parse_args()

    strategy = PipelineStrategy(schedule=args.schedule, microbatches=4, loss_fn=cross_entropy)
    fabric = Fabric(accelerator="cpu", devices=args.devices, strategy=strategy)
    fabric.launch()
    fabric.seed_everything(0)
    module = network()
    model, optimizer = fabric.setup(module, torch.optim.AdamW(module.parameters(), lr=3e-3))

    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    labels = torch.tensor(digits.target)
    held_parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"rank {fabric.global_rank} holds {held_parameters} parameters", flush=True)
    for epoch in range(args.epochs):
        for begin in range(0, 1536, 64):
            loss = model(images[begin : begin + 64], target=labels[begin : begin + 64])
            optimizer.zero_grad()
            fabric.backward(loss)
            fabric.clip_gradients(model, optimizer, max_norm=1.0)
            optimizer.step()
        with torch.no_grad():
            right = (model(images[1536:]).argmax(1) == labels[1536:]).float().mean()
        fabric.print(
            f"epoch {epoch}: loss {float(loss.detach()):.3f}, {float(right):.1%} of the others right"
        )


if __name__ == "__main__":
    main()
