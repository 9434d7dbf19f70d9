"""What surrounds a stage, and how its results are told."""

from typing import TYPE_CHECKING

from blixt.trainer.datamodule import DataModule
from blixt.trainer.module import Module
from blixt.trainer.views import Stage

if TYPE_CHECKING:
    from blixt.trainer.trainer import Trainer


class Running:
    """Around a stage: hooks before, teardown after, `on_exception` when it fails."""

    def __init__(
        self, trainer: "Trainer", stage: Stage, module: Module, datamodule: DataModule | None
    ) -> None:
        self._trainer = trainer
        self._stage: Stage = stage
        self._module, self._datamodule = module, datamodule

    def __enter__(self) -> None:
        try:
            self._trainer.begin_stage(self._stage, self._module, self._datamodule)
        except Exception as error:
            self._trainer.fail_stage(error)
            raise

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            self._trainer.end_stage(self._stage)
        else:
            self._trainer.fail_stage(error)


def by_loader(row: dict[str, float], count: int) -> list[dict[str, float]]:
    """The metrics of each loader; those of no loader in particular belong to all."""
    if count == 1:
        return [row]
    mark = "/dataloader_idx_"
    return [
        {name: value for name, value in row.items() if mark not in name or name.endswith(f"{mark}{index}")}
        for index in range(count)
    ]


def sentence(row: dict[str, float]) -> str:
    """A row for people."""
    return "  ".join(f"{name}={value:.6g}" for name, value in row.items())
