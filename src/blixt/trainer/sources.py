"""What the Trainer's methods and arguments may be given in the place of something else."""

import inspect
from typing import Any

from blixt.fabric import ConfigError
from blixt.fabric.errors import WrongTypeError
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
    if datamodule is not None and not isinstance(datamodule, DataModule):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise not_one(f"{argument.partition('(')[0]}(datamodule)", datamodule, DataModule)
    one_source(argument, loaders, datamodule)
    return loaders, datamodule


def not_one(argument: str, given: object, wanted: type) -> WrongTypeError:
    """What to say where a module or data module is wanted and something else is given."""
    name = given.__name__ if isinstance(given, type) else type(given).__name__
    if isinstance(given, type) and issubclass(given, wanted):
        return WrongTypeError(argument, name, "it is the class", f"Make one of it: {name}()")
    home = {kind.__module__.partition(".")[0] for kind in inspect.getmro(type(given))}
    fix = f"Derive it from blixt.{wanted.__name__}"
    if home & {"lightning", "pytorch_lightning"}:
        fix += ", or run the program by python -m blixt.compat.lightning"
    return WrongTypeError(argument, name, f"it is not a blixt.trainer.{wanted.__name__}", fix)


def one_source(argument: str, loaders: Any, datamodule: DataModule | None) -> None:
    """Refuse loaders beside a data module."""
    if loaders is not None and datamodule is not None:
        reason = f"a {type(datamodule).__name__} is given too"
        raise ConfigError(argument, type(loaders).__name__, reason, "Give one of them")
