"""The trainer and its companions, with Lightning's folder for logs and Lightning's way to gather."""

from typing import Any, ClassVar

from blixt import fabric, trainer
from blixt.compat.lightning.own._loggers import LOGS, OWN, CSVLogger, TensorBoardLogger
from blixt.compat.lightning.own.gathering import Fabric

__all__ = ["CLI", "CSVLogger", "TensorBoardLogger", "Trainer"]


class Trainer(trainer.Trainer):
    """blixt's trainer, whose default logger writes to `lightning_logs`."""

    DEFAULT_LOGGER_NAME: ClassVar[str] = LOGS
    FABRIC: ClassVar[type[fabric.Fabric]] = Fabric


class CLI(trainer.CLI):
    """blixt's command line, which makes the `Trainer` and the loggers of this file."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if len(args) < 5:  # trainer_class is the fifth
            kwargs.setdefault("trainer_class", Trainer)
        super().__init__(*args, **kwargs)

    def init_parser(self, **kwargs: Any) -> trainer.ArgumentParser:
        """A parser that makes the loggers of this file where blixt's are named."""
        parser = super().init_parser(**kwargs)
        parser.add_instantiator(_as_here, fabric.Logger)  # pyright: ignore[reportUnknownMemberType]
        return parser


def _as_here(kind: type[Any], *args: Any, **kwargs: Any) -> Any:
    kwargs.pop("applied_instantiation_links", None)
    return OWN.get(kind, kind)(*args, **kwargs)
