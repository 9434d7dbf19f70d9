"""Datasets of Hugging Face's `datasets`, map style: their Arrow tables, by row."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from blixt.data.errors import FormatError
from blixt.data.foreign.arrow import samples
from blixt.data.foreign.optional import need
from blixt.data.foreign.rows import ForeignDataset

_PART_ROWS = 1000


class HuggingFaceSource:
    """Rows of a `datasets.Dataset`; see `HuggingFaceDataset`."""

    name = "huggingface"

    def __init__(self, dataset: Any, columns: Sequence[str] | None) -> None:
        if columns is not None:
            dataset = dataset.select_columns(list(columns))
        self._media = [name for name, kind in dataset.features.items() if type(kind).__name__ == "Image"]
        self._dataset = dataset.with_format("arrow")
        columns_held = {name: dataset.data.column(name) for name in dataset.column_names}
        self._optional = {name for name, column in columns_held.items() if column.null_count}
        rows = len(dataset)
        self.part_rows = [min(_PART_ROWS, rows - first) for first in range(0, rows, _PART_ROWS)]
        self.size_bytes = int(dataset.data.nbytes)
        self.fingerprint = str(
            dataset._fingerprint
        )  # its hash over data and transforms; it has no public name

    def where(self, part: int) -> str:
        """Return what names the dataset in messages."""
        return f"dataset {self.fingerprint}"

    def confirm(self) -> None:
        """Do nothing: the tables are Arrow's."""

    def read(self, part: int, rows: list[int], stored: bool) -> list[Any]:
        """Return rows as dicts."""
        first = part * _PART_ROWS
        return samples(self._dataset[[first + row for row in rows]], stored, self._media, self._optional)


class HuggingFaceDataset(ForeignDataset):
    """The rows of a `datasets.Dataset`, as dicts by column; images become uint8 arrays.

    Args:
        source: a `datasets.Dataset`, or the folder of one that `save_to_disk` wrote. For a dataset on the hub
            pass `datasets.load_dataset(name, split="train")`.
        columns: the columns to read; all when None.
        rows: `shuffle`, `seed`, `window`, `rank`, `world_size`: as for `Dataset`.

    Raises:
        FormatError: when it holds several splits, or the folder is none of `datasets`.
        DataError: when `datasets` is not installed.
    """

    def __init__(self, source: Any, *, columns: Sequence[str] | None = None, **rows: Any) -> None:
        dataset = _load(source) if isinstance(source, (str, Path)) else source
        if not hasattr(dataset, "select_columns") or isinstance(dataset, Mapping):
            splits = (
                ", ".join(map(str, cast("Mapping[Any, Any]", dataset)))
                if isinstance(dataset, Mapping)
                else ""
            )
            what = str(source) if isinstance(source, (str, Path)) else f"a {type(source).__name__}"
            raise FormatError(
                f"{what} is not one dataset; choose a split of it" + (f": {splits}" if splits else "")
            )
        super().__init__(HuggingFaceSource(dataset, columns), **rows)


def _load(folder: str | Path) -> Any:
    datasets = need("datasets", "hf")
    try:
        return datasets.load_from_disk(str(folder))
    except FileNotFoundError as problem:
        raise FormatError(f"{folder} holds no dataset of Hugging Face's save_to_disk: {problem}") from None
