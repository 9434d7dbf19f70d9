"""Small modules, data and data modules for tests: the same layers, losses and data as Lightning's."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from blixt.trainer.datamodule import DataModule
from blixt.trainer.module import Module


class RandomDataset(Dataset[torch.Tensor]):
    """Normal numbers, drawn when it is made.

    Args:
        size: Numbers a sample.
        length: Samples.
    """

    def __init__(self, size: int, length: int) -> None:
        self.len = length
        self.data = torch.randn(length, size)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.data[index]

    def __len__(self) -> int:
        return self.len


class RandomDictDataset(RandomDataset):
    """Samples are dicts: "a" is random and "b" is two more."""

    def __getitem__(self, index: int) -> Any:
        a = self.data[index]
        return {"a": a, "b": a + 2}


class RandomIterableDataset(IterableDataset[torch.Tensor]):
    """Normal numbers, drawn while it is read; its length is not told.

    Args:
        size: Numbers a sample.
        count: Samples.
    """

    def __init__(self, size: int, count: int) -> None:
        self.count = count
        self.size = size

    def __iter__(self) -> Iterator[torch.Tensor]:
        for _ in range(self.count):
            yield torch.randn(self.size)


class RandomIterableDatasetWithLen(RandomIterableDataset):
    """The same, and its length is told."""

    def __len__(self) -> int:
        return self.count


class BoringModel(Module):
    """One linear layer 32 -> 2 that learns to say one, with all its loaders; override what is tested."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 32) -> (batch, 2)."""
        return self.layer(x)

    def loss(self, preds: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Mean squared distance to `labels`, or to one."""
        return functional.mse_loss(preds, torch.ones_like(preds) if labels is None else labels)

    def step(self, batch: Any) -> torch.Tensor:
        """The loss of a batch."""
        return self.loss(self(batch))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """{"loss": ...}."""
        return {"loss": self.step(batch)}

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        """{"x": ...}."""
        return {"x": self.step(batch)}

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        """{"y": ...}."""
        return {"y": self.step(batch)}

    def configure_optimizers(self) -> Any:
        """SGD whose rate falls with every epoch."""
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)]

    def train_dataloader(self) -> Any:
        """64 batches of one sample; as for all stages."""
        return DataLoader(RandomDataset(32, 64))

    def val_dataloader(self) -> Any:
        """See `train_dataloader`."""
        return DataLoader(RandomDataset(32, 64))

    def test_dataloader(self) -> Any:
        """See `train_dataloader`."""
        return DataLoader(RandomDataset(32, 64))

    def predict_dataloader(self) -> Any:
        """See `train_dataloader`."""
        return DataLoader(RandomDataset(32, 64))


class ManualOptimBoringModel(BoringModel):
    """The same, optimising by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Forward, backward and step."""
        optimizer = self.optimizers()
        loss = self.step(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss


_WANTED = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}


class _StagedData(DataModule):
    """Loaders over `self.random_<stage>`, which `setup` makes by `_make(stage)` for those that want it."""

    def _make(self, stage: str) -> Any:
        raise AssertionError(stage)

    def setup(self, stage: str) -> None:
        for wanted in _WANTED[stage]:
            setattr(self, f"random_{wanted}", self._make(wanted))

    def _load(self, stage: str) -> Any:
        data: Any = getattr(self, f"random_{stage}")
        parts = cast("list[Any]", data if isinstance(data, list) else [data])
        loaders = [DataLoader[Any](part) for part in parts]
        return loaders if isinstance(data, list) else loaders[0]

    def train_dataloader(self) -> Any:
        return self._load("train")

    def val_dataloader(self) -> Any:
        return self._load("val")

    def test_dataloader(self) -> Any:
        return self._load("test")

    def predict_dataloader(self) -> Any:
        return self._load("predict")


class BoringDataModule(_StagedData):
    """Four parts of 64 samples each of one random dataset."""

    def __init__(self) -> None:
        super().__init__()
        self.random_full = RandomDataset(32, 64 * 4)

    def _make(self, stage: str) -> Any:
        part = ("train", "val", "test", "predict").index(stage)
        return Subset(self.random_full, range(64 * part, 64 * (part + 1)))


class BoringDataModuleNoLen(_StagedData):
    """Iterable datasets that do not tell their length."""

    def _make(self, stage: str) -> Any:
        counts = {"train": 512, "val": 128, "test": 256, "predict": 64}
        return RandomIterableDataset(32, counts[stage])


class IterableBoringDataModule(_StagedData):
    """Two loaders a stage, one of them iterable."""

    def _make(self, stage: str) -> Any:
        count = {"train": 16, "val": 32, "test": 64, "predict": 128}[stage]
        return [RandomDataset(4, count), RandomIterableDataset(4, count)]


class DemoModel(Module):
    """One linear layer 32 -> `out_dim` under Adam; its loss is a sum.

    Args:
        out_dim: Outputs.
        learning_rate: Of Adam.
    """

    def __init__(self, out_dim: int = 10, learning_rate: float = 0.02) -> None:
        super().__init__()
        self.l1 = nn.Linear(32, out_dim)
        self.learning_rate = learning_rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, ...) of 32 numbers each -> (batch, out_dim)."""
        return torch.relu(self.l1(x.view(x.size(0), -1)))

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """The sum of the outputs."""
        return self(batch).sum()

    def configure_optimizers(self) -> Any:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


class Net(nn.Module):
    """A small convolutional network for images (batch, 1, 28, 28) of ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.conv2 = nn.Conv2d(32, 64, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (batch, 10)."""
        x = functional.relu(self.conv2(functional.relu(self.conv1(x))))
        x = torch.flatten(self.dropout1(functional.max_pool2d(x, 2)), 1)
        x = self.dropout2(functional.relu(self.fc1(x)))
        return functional.log_softmax(self.fc2(x), dim=1)
