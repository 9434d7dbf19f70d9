"""The trainer and its companions with Lightning's folder for logs."""

from typing import Any, ClassVar

from blixt import fabric, trainer

_LOGS = "lightning_logs"


class Trainer(trainer.Trainer):
    """blixt's trainer, whose default logger writes to `lightning_logs`."""

    DEFAULT_LOGGER_NAME: ClassVar[str] = _LOGS


class CLI(trainer.CLI):
    """blixt's command line, which makes the `Trainer` of this file."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if len(args) < 5:  # trainer_class is the fifth
            kwargs.setdefault("trainer_class", Trainer)
        super().__init__(*args, **kwargs)


class CSVLogger(fabric.CSVLogger):
    """blixt's, in `lightning_logs` unless told otherwise."""

    DEFAULT_NAME: ClassVar[str] = _LOGS


class TensorBoardLogger(fabric.TensorBoardLogger):
    """blixt's, in `lightning_logs` unless told otherwise."""

    DEFAULT_NAME: ClassVar[str] = _LOGS
