"""From Parquet to a dataset, read in place first: the same rows, then with any order and an exact state.

    python examples/data/arrivals.py [FOLDER]

`MDSDataset`, `LitDataDataset`, `WebDataset` and `HuggingFaceDataset` of `blixt.data.foreign` work in the same
way.
"""

import sys
import tempfile
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from blixt.data import Dataset, Loader
from blixt.data.foreign import ParquetDataset, convert


def main(folder: Path) -> None:
    """Write Parquet files, read them, convert them."""
    (folder / "old").mkdir(parents=True, exist_ok=True)
    for file in range(3):
        rows = [{"id": 100 * file + i, "text": f"row {i}", "ids": list(range(i % 5))} for i in range(100)]
        parquet.write_table(pa.Table.from_pylist(rows), folder / "old" / f"{file}.parquet", row_group_size=40)

    old = ParquetDataset(folder / "old", shuffle=True, seed=1)
    batch = next(iter(Loader(old, batch_size=8)))
    print(f"{len(old)} rows in place; a batch of ids: {batch['id'].tolist()}")

    snapshot = convert(old, folder / "new", num_workers=2, mode="overwrite", progress=False)
    print(", ".join(f"{column.name}: {column.describe()}" for column in snapshot.schema.columns))
    before = [row["id"] for row in ParquetDataset(folder / "old")]
    print(f"the same rows: {[row['id'] for row in Dataset(folder / 'new')] == before}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
