"""Ask for the labels that help most: active learning on Fabric.

    python examples/fabric/active_learning.py [--rounds 6] [--devices 2]

Labels are dear, pictures are cheap. Of 1,400 handwritten digits (they come with scikit-learn,
`pip install scikit-learn`) 20 are labelled at first. In every round a fresh model is trained on the labels
there are, then looks at all other pictures and asks for those where its two best guesses are closest (margin
sampling, Scheffer et al. 2001). The same is done with pictures drawn by lot, to see what asking is worth.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from blixt.fabric import Fabric


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))


def trained(fabric: Fabric, pictures: TensorDataset, labelled: list[int], steps: int) -> nn.Module:
    """A fresh model, trained on the labelled pictures."""
    model = network()
    model, optimizer = fabric.setup(model, torch.optim.AdamW(model.parameters(), lr=1e-2))
    loader = fabric.setup_dataloaders(DataLoader(Subset(pictures, labelled), 32, shuffle=True))
    done = 0
    while done < steps:
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
            done += 1
    return model.eval()


@torch.no_grad()
def margins(fabric: Fabric, model: nn.Module, pictures: TensorDataset, pool: list[int]) -> torch.Tensor:
    """How far apart the two best guesses are for each picture of the pool; every process looks at a part."""
    share = pool[fabric.global_rank :: fabric.world_size]
    mine = torch.full((-(-len(pool) // fabric.world_size),), torch.inf)
    images = fabric.to_device(pictures.tensors[0][share])
    best = model(images).softmax(1).topk(2).values
    mine[: len(share)] = (best[:, 0] - best[:, 1]).cpu()
    return fabric.all_gather(mine).T.flatten()[: len(pool)]


def learn(fabric: Fabric, ask: bool, options: argparse.Namespace) -> list[float]:
    """Accuracy on unseen pictures after every round."""
    images, labels = load_digits(return_X_y=True)
    pictures = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0)).tolist()
    test, pool, labelled = order[1400:], order[20:1400], order[:20]
    lots = torch.Generator().manual_seed(1)
    scores: list[float] = []
    for _ in range(options.rounds):
        fabric.seed_everything(0)
        model = trained(fabric, pictures, labelled, options.steps)
        with torch.no_grad():
            guess = model(fabric.to_device(pictures.tensors[0][test])).argmax(1).cpu()
        scores.append(float((guess == pictures.tensors[1][test]).float().mean()))
        urgency = margins(fabric, model, pictures, pool) if ask else torch.rand(len(pool), generator=lots)
        chosen = set(urgency.argsort()[: options.labels].tolist())
        labelled = labelled + [pool[i] for i in sorted(chosen)]
        pool = [item for i, item in enumerate(pool) if i not in chosen]
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", default="auto")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--labels", type=int, default=20, help="new ones in a round")
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()

    fabric = Fabric(devices=options.devices)
    fabric.launch()
    asked, drawn = learn(fabric, True, options), learn(fabric, False, options)
    for index, (with_asking, by_lot) in enumerate(zip(asked, drawn, strict=True)):
        labels = 20 + index * options.labels
        fabric.print(f"{labels:4} labels: {with_asking:.1%} right by asking, {by_lot:.1%} by lot")
    fabric.print(f"done on {fabric.world_size} process(es)")


if __name__ == "__main__":
    main()
