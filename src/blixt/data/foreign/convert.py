"""From another library's dataset to one of ours, by the build of `optimize`: in parallel, resumable."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from blixt.data.build.optimize import optimize
from blixt.data.errors import FormatError
from blixt.data.foreign.detect import open_foreign
from blixt.data.foreign.rows import ForeignDataset
from blixt.data.snapshot import Snapshot
from blixt.data.types import Array

_RUN_ROWS = 256
_PROBE_ROWS = 256
Run = tuple[int, int]
Place = tuple[Any, ...]


def convert(
    source: str | Path | ForeignDataset,
    output: str | Path,
    *,
    format: str | None = None,
    fixed_shapes: bool | None = None,
    **options: Any,
) -> Snapshot:
    """Write another library's dataset as one of ours, without loss: a JPEG stays the same bytes.

    Rows keep their order. A run that breaks off goes on from its finished parts when called again. Tensors
    become arrays.

    Args:
        source: the location, or an open reader (with its password, columns, decoders ...).
        output: the new dataset's folder.
        format: the source's format; found out when None.
        fixed_shapes: store arrays as columns of one shape, which are the fastest to read (True), or with a
            shape of their own per row (False); None looks at some rows from all over the source, and takes
            one shape for an array that has the same in all of them.
        options: for `optimize`, such as `num_workers`, `chunk_bytes`, `mode`, `progress`.

    Returns:
        The published snapshot.

    Raises:
        FormatError: when the source cannot be read, or is empty.
        SchemaError: when its samples do not all have the same columns; for arrays of other shapes call again
            with `fixed_shapes=False`.
    """
    dataset = source if isinstance(source, ForeignDataset) else open_foreign(source, format)
    if not len(dataset):
        raise FormatError(f"{source} is empty: there is nothing to convert")
    shapes = _shapes(dataset) if fixed_shapes is None else {}
    varying = {place for place, found in shapes.items() if len(found) > 1}
    return optimize(_Copy(dataset, fixed_shapes is not False, varying), runs(dataset), output, **options)


def runs(dataset: ForeignDataset) -> list[Run]:
    """Cut a dataset into runs of some hundred rows that stay within one file."""
    cut: list[Run] = []
    first = 0
    for rows in dataset.source.part_rows:
        end = first + rows
        cut += [(start, min(start + _RUN_ROWS, end)) for start in range(first, end, _RUN_ROWS)]
        first = end
    return cut


class _Copy:
    """Reads a run of rows as what our writer stores; travels to the workers."""

    def __init__(self, dataset: ForeignDataset, fixed: bool, varying: set[Place]) -> None:
        self._dataset, self._fixed, self._varying = dataset, fixed, varying

    def __call__(self, run: Run) -> Iterator[Any]:
        for sample in self._dataset.take(range(*run), stored=True):
            yield map_arrays(sample, self._wrap)

    def _wrap(self, array: np.ndarray[Any, Any], place: Place) -> Any:
        return array if self._fixed and place not in self._varying else Array(array)

    def __repr__(self) -> str:
        source = self._dataset.source
        return f"copy of {source.name} {source.fingerprint} {self._fixed} {sorted(map(str, self._varying))}"


def _shapes(dataset: ForeignDataset) -> dict[Place, set[Any]]:
    """Return the shapes and types of each array in rows from all over the dataset."""
    shapes: dict[Place, set[Any]] = {}

    def note(array: np.ndarray[Any, Any], place: Place) -> Any:
        shapes.setdefault(place, set()).add((array.shape, array.dtype.str))

    rows = np.unique(np.linspace(0, len(dataset) - 1, _PROBE_ROWS).astype(np.int64)).tolist()
    for sample in dataset.take(rows, stored=True):
        map_arrays(sample, note)
    return shapes


def map_arrays(node: Any, change: Callable[[np.ndarray[Any, Any], Place], Any], place: Place = ()) -> Any:
    """Return a sample with `change(array, place)` in the place of each array in it."""
    if isinstance(node, dict):
        fields = cast("dict[str, Any]", node)
        return {key: map_arrays(value, change, (*place, key)) for key, value in fields.items()}
    if isinstance(node, (list, tuple)):
        items = [map_arrays(item, change, (*place, i)) for i, item in enumerate(cast("list[Any]", node))]
        return items if isinstance(node, list) else tuple(items)
    return change(cast("np.ndarray[Any, Any]", node), place) if isinstance(node, np.ndarray) else node
