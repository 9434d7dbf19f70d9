"""Data and how it is prepared, apart from any model."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

from torch.utils.data import DataLoader, Dataset, IterableDataset

from blixt.trainer.data_hooks import DataHooks
from blixt.trainer.hparams import HyperparametersMixin

if TYPE_CHECKING:
    from blixt.trainer.trainer import Trainer

_STAGES = ("train", "val", "test", "predict")
Datasets = Dataset[Any] | Iterable[Dataset[Any]] | Mapping[str, Dataset[Any]] | None


class DataModule(DataHooks, HyperparametersMixin):
    """Datasets and their loaders, under one name, for any model.

    Override what you need; each loader may be a `DataLoader`, any iterable of batches, or a nest of them.

    Attributes:
        name: For people.
        trainer: The trainer that uses this data; None before and without one.

    Example:
        >>> import torch
        >>> ones = torch.utils.data.TensorDataset(torch.ones(8, 2))
        >>> data = DataModule.from_datasets(train_dataset=ones, batch_size=4)
        >>> len(data.train_dataloader())
        2
    """

    CHECKPOINT_HYPER_PARAMS_KEY = "datamodule_hyper_parameters"
    CHECKPOINT_HYPER_PARAMS_NAME = "datamodule_hparams_name"
    CHECKPOINT_HYPER_PARAMS_TYPE = "datamodule_hparams_type"

    name: str | None = None
    trainer: "Trainer | None" = None

    @classmethod
    def from_datasets(
        cls,
        train_dataset: Datasets = None,
        val_dataset: Datasets = None,
        test_dataset: Datasets = None,
        predict_dataset: Datasets = None,
        batch_size: int = 1,
        num_workers: int = 0,
        **datamodule_kwargs: Any,
    ) -> Self:
        """A data module around datasets.

        Args:
            train_dataset: One, several or named ones; shuffled unless iterable.
            val_dataset: One or several.
            test_dataset: One or several.
            predict_dataset: One or several.
            batch_size: Samples a batch; given to `__init__`, too, if it has such an argument.
            num_workers: Processes that load; given to `__init__`, too, if it has such an argument.
            datamodule_kwargs: For `__init__`.
        """
        common = {"batch_size": batch_size, "num_workers": num_workers}
        accepted = inspect.signature(cls.__init__).parameters
        takes_all = cls.__init__ is not object.__init__ and any(
            p.kind is p.VAR_KEYWORD for p in accepted.values()
        )
        own = {name: value for name, value in common.items() if takes_all or name in accepted}
        data = cls(**{**own, **datamodule_kwargs})
        given = (train_dataset, val_dataset, test_dataset, predict_dataset)
        for stage, datasets in zip(_STAGES, given, strict=True):
            if datasets is not None:
                setattr(data, f"{stage}_dataloader", _loaders(datasets, stage == "train", common))
        return data

    def on_exception(self, exception: BaseException) -> None:
        """The run ends with an error."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint should keep, as plain values."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""

    def __str__(self) -> str:
        """Which datasets there are and how large, as far as they are set up."""
        words = {"train": "Train", "val": "Validation", "test": "Test", "predict": "Predict"}
        return "\n".join(f"{{{words[stage]} dataloader: {self._sizes(stage)}}}" for stage in _STAGES)

    def _sizes(self, stage: str) -> str:
        try:
            made: Any = getattr(self, f"{stage}_dataloader")()
        except Exception:  # setup has not run: the loader cannot know its dataset
            return "None"
        if not isinstance(made, (Mapping, Sequence)):
            return _size(made)
        every = cast("Any", made).values() if isinstance(made, Mapping) else cast("Any", made)
        return " ; ".join(f"{index}. {_size(loader)}" for index, loader in enumerate(every, start=1))


def _loaders(datasets: Any, train: bool, common: dict[str, int]) -> Callable[[], Any]:
    def one(dataset: Any) -> DataLoader[Any]:
        shuffle = train and not isinstance(dataset, IterableDataset)
        return DataLoader[Any](cast("Any", dataset), shuffle=shuffle, **cast("Any", common))

    def make() -> Any:
        if isinstance(datasets, Mapping):
            return {name: one(dataset) for name, dataset in cast("Mapping[str, Any]", datasets).items()}
        if isinstance(datasets, Dataset) or (
            hasattr(datasets, "__getitem__") and not isinstance(datasets, Sequence)
        ):
            return one(datasets)
        return [one(dataset) for dataset in cast("Iterable[Any]", datasets)]

    return make


def _size(loader: Any) -> str:
    if loader is None:
        return "None"
    dataset = getattr(loader, "dataset", loader)
    return f"size={len(dataset)}" if hasattr(dataset, "__len__") else "size=NA"
