"""Parquet files and Hugging Face datasets, by row."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blixt.data.errors import FormatError
from blixt.data.foreign import HuggingFaceDataset, ParquetDataset, open_foreign
from data.foreign import samples
from data.foreign.compare import same_values

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": i, "text": f"t{i}", "ids": list(range(i % 4))} for i in range(first, first + count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, first in (("a", 0), ("b", 10)):
        table = pa.Table.from_pylist(rows(10, first))
        parquet.write_table(table, tmp_path / f"{name}.parquet", row_group_size=4)
    return tmp_path


def test_parquet_rows_are_dicts_in_the_order_of_files_and_rows(folder: Path) -> None:
    dataset = ParquetDataset(folder)
    assert dataset[:] == rows(20)
    assert dataset[13] == rows(1, 13)[0]
    assert pickle.loads(pickle.dumps(dataset))[19] == rows(1, 19)[0]


def test_columns_are_chosen_and_an_unknown_one_is_named(folder: Path) -> None:
    assert ParquetDataset(folder / "b.parquet", columns=["id"])[9] == {"id": 19}
    with pytest.raises(FormatError, match=r"no column nope; it has id, text, ids"):
        ParquetDataset(folder, columns=["nope"])[0]


def test_a_file_that_is_no_parquet_is_named(folder: Path) -> None:
    (folder / "c.parquet").write_bytes(b"PAR1 but not really PAR1")
    with pytest.raises(FormatError, match=r"c\.parquet"):
        ParquetDataset(folder)


def test_batches_stack_numbers_and_list_the_rest(folder: Path) -> None:
    batch = ParquetDataset(folder).read_batch([3, 17])
    assert batch["id"].tolist() == [3, 17]
    assert batch["text"] == ["t3", "t17"]


def test_a_hugging_face_dataset_is_read_from_memory_and_from_its_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    image = pytest.importorskip("PIL.Image")
    pictures = [image.fromarray(samples.pixels(i)) for i in range(5)]
    features = datasets.Features({"id": datasets.Value("int32"), "picture": datasets.Image()})
    made = datasets.Dataset.from_dict({"id": range(5), "picture": pictures}, features=features)
    made = made.select([4, 1, 2])
    made.save_to_disk(str(tmp_path / "saved"))
    for dataset in (HuggingFaceDataset(made), open_foreign(tmp_path / "saved")):
        assert [sample["id"] for sample in dataset] == [4, 1, 2]
        assert np.array_equal(dataset[0]["picture"], samples.pixels(4))
    assert HuggingFaceDataset(made, columns=["id"])[:] == [{"id": 4}, {"id": 1}, {"id": 2}]
    made.to_parquet(str(tmp_path / "p.parquet"))
    assert same_values(ParquetDataset(tmp_path / "p.parquet")[0]["picture"], samples.pixels(4))
    with pytest.raises(FormatError, match="choose a split of it: train"):
        HuggingFaceDataset(datasets.DatasetDict({"train": made}))
