"""What the Trainer's methods and arguments may be given in the place of something else."""

from typing import Any

from blixt.fabric import ConfigError
from blixt.trainer.datamodule import DataModule


def with_sync_batchnorm(plugins: Any) -> list[Any]:
    """`plugins` and the one that `sync_batchnorm=True` stands for."""
    from blixt.fabric.strategies.layer_sync import LayerSync, TorchSyncBatchNorm

    several = isinstance(plugins, (list, tuple, set))
    every: list[Any] = list(plugins) if several else [] if plugins is None else [plugins]  # pyright: ignore[reportUnknownArgumentType]
    return every if any(isinstance(plugin, LayerSync) for plugin in every) else [*every, TorchSyncBatchNorm()]


def sort_data(argument: str, loaders: Any, datamodule: DataModule | None) -> tuple[Any, DataModule | None]:
    """A data module may be given in the place of loaders, but not beside them."""
    if isinstance(loaders, DataModule):
        loaders, datamodule = None, loaders
    one_source(argument, loaders, datamodule)
    return loaders, datamodule


def one_source(argument: str, loaders: Any, datamodule: DataModule | None) -> None:
    """Refuse loaders beside a data module."""
    if loaders is not None and datamodule is not None:
        reason = f"a {type(datamodule).__name__} is given too"
        raise ConfigError(argument, type(loaders).__name__, reason, "Give one of them")
