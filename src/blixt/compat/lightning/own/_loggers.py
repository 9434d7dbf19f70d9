"""The file loggers with Lightning's folder; in a private file, so that command lines know each name once."""

from typing import Any, ClassVar

from blixt import fabric

LOGS = "lightning_logs"


class CSVLogger(fabric.CSVLogger):
    """blixt's, in `lightning_logs` unless told otherwise."""

    DEFAULT_NAME: ClassVar[str] = LOGS


class TensorBoardLogger(fabric.TensorBoardLogger):
    """blixt's, in `lightning_logs` unless told otherwise."""

    DEFAULT_NAME: ClassVar[str] = LOGS


OWN: dict[type, type[Any]] = {fabric.CSVLogger: CSVLogger, fabric.TensorBoardLogger: TensorBoardLogger}
"""Which of these stands for which of blixt's."""
