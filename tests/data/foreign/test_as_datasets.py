"""What every reader of other formats shares: order, ranks, state, loaders, detection, conversion."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blixt.data import Dataset, Loader, TokenDataset, verify
from blixt.data.errors import FormatError
from blixt.data.foreign import ForeignDataset, convert, detect, fernet, open_foreign
from blixt.data.snapshot import load
from data.foreign import samples
from data.foreign.compare import same_values

FIXTURES = Path(__file__).parent / "fixtures"
KINDS = {"litdata": "litdata-0.2.76/tree", "mds": "mds/columns", "webdataset": "webdataset"}


def opened(kind: str, cache: Path, **options: Any) -> ForeignDataset:
    return open_foreign(FIXTURES / KINDS[kind], cache_dir=cache, **options)


def key(sample: Any) -> str:
    return str(sample.get("__key__", sample.get("int")))


@pytest.mark.parametrize("kind", KINDS)
def test_the_format_is_found_out(kind: str) -> None:
    assert detect(FIXTURES / KINDS[kind]) == kind


def test_what_is_no_dataset_and_an_unknown_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no dataset of a known format"):
        open_foreign(tmp_path)
    with pytest.raises(ValueError, match="format must be one of"):
        open_foreign(tmp_path, "zip")


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_has_every_row_once_in_an_order_of_its_own(kind: str, tmp_path: Path) -> None:
    stored = [key(sample) for sample in opened(kind, tmp_path)]
    dataset = opened(kind, tmp_path, shuffle=True, seed=3)
    epochs = [[key(sample) for sample in dataset] for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(stored)


def test_a_state_goes_on_at_the_exact_row_with_other_ranks(tmp_path: Path) -> None:
    whole = [key(sample) for sample in opened("mds", tmp_path, shuffle=True, seed=1)]
    first = iter(loader := Loader(opened("mds", tmp_path, shuffle=True, seed=1), 4, end="pad"))
    begun = next(first)["int"].tolist()
    assert [str(number) for number in begun] == whole[:4]
    rest: list[str] = []
    for rank in range(3):
        part = opened("mds", tmp_path, rank=rank, world_size=3)
        part.load_state_dict(loader.state_dict())
        rest += [key(sample) for sample in part]
    assert sorted(rest) == sorted(whole[4:])


def test_batches_stack_equal_shapes_and_list_the_others(tmp_path: Path) -> None:
    batch = next(iter(Loader(opened("litdata", tmp_path), 3)))
    assert batch["matrix"].shape == (3, 2, 3)
    assert [vector.shape for vector in batch["vector"]] == [(1,), (2,), (3,)]
    assert batch["pair"][0].tolist() == [0, 1, 4]
    assert batch["pair"][1] == ["p0", "p1", "p2"]


def test_torch_loads_it_with_workers(tmp_path: Path) -> None:
    data = pytest.importorskip("torch.utils.data")
    dataset = opened("mds", tmp_path)
    loader = data.DataLoader(dataset, batch_size=5, num_workers=1, collate_fn=list)
    assert [key(sample) for batch in loader for sample in batch] == [key(sample) for sample in dataset]


@pytest.mark.parametrize("kind", ["litdata", "mds"])
def test_a_converted_dataset_holds_the_same_values(kind: str, tmp_path: Path) -> None:
    source = opened(kind, tmp_path / "cache")
    convert(source, tmp_path / "ours", num_workers=0)
    assert verify(tmp_path / "ours").ok
    text = ("str_int",)
    for mine, theirs in zip(Dataset(tmp_path / "ours"), source, strict=True):
        for name in set(theirs) - {"jpeg", *text}:
            assert same_values(mine[name], theirs[name]), name
        assert all(mine[name] == str(theirs[name]) for name in text if name in theirs)


def test_arrays_of_one_shape_become_fixed_columns_and_media_stay_files(tmp_path: Path) -> None:
    snapshot = convert(opened("litdata", tmp_path / "cache"), tmp_path / "ours", num_workers=0)
    columns = {column.name: (column.kind, column.type) for column in snapshot.schema.columns}
    assert columns["matrix"] == ("fixed", "array")
    assert columns["vector"] == ("variable", "array")
    assert columns["jpeg"] == ("variable", "jpeg")
    raw = opened("litdata", tmp_path / "cache", decoders={"jpeg": bytes})
    assert np.array_equal(
        Dataset(tmp_path / "ours")[3]["jpeg"], opened("litdata", tmp_path / "cache")[3]["jpeg"]
    )
    assert raw[3]["jpeg"] in (tmp_path / "ours" / "shards" / snapshot.shards[0].file).read_bytes()


def test_shapes_that_differ_only_in_rare_rows_are_kept_when_asked(tmp_path: Path) -> None:
    convert(opened("litdata", tmp_path / "c"), tmp_path / "ours", num_workers=0, fixed_shapes=False)
    assert {column.kind for column in load(tmp_path / "ours").schema.columns if column.type == "array"} == {
        "variable"
    }


def test_a_converted_tar_keeps_its_pictures_as_they_are(tmp_path: Path) -> None:
    source = opened("webdataset", tmp_path / "cache", decoders={"jpg": bytes})
    convert(opened("webdataset", tmp_path / "cache"), tmp_path / "ours", num_workers=0)
    ours = Dataset(tmp_path / "ours")
    assert len(ours) == samples.TAR_ROWS
    assert ours[1]["json"] == {"id": 1}
    assert source[1]["jpg"].startswith(b"\xff\xd8")


def test_converted_tokens_lose_no_tail(tmp_path: Path) -> None:
    snapshot = convert(FIXTURES / "litdata-0.2.45" / "tokens", tmp_path / "ours", num_workers=0)
    stream = np.concatenate([samples.document(i) for i in range(samples.DOCUMENTS)])
    assert snapshot.tokens("value") == len(stream)
    assert TokenDataset(tmp_path / "ours", block_size=20, overlap=0)[0].tolist() == stream[:20].tolist()


def test_an_encrypted_dataset_is_converted_by_worker_processes(tmp_path: Path) -> None:
    path = FIXTURES / "litdata-0.2.76" / "fernet-sample"
    source = open_foreign(
        path, decrypt=fernet(path / "key.json", "correct horse"), cache_dir=tmp_path / "cache"
    )
    assert convert(source, tmp_path / "ours", num_workers=2).rows == samples.ROWS
    assert Dataset(tmp_path / "ours")[3]["id"] == 3


def test_parquet_of_mixed_columns_is_converted(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    made = [{"id": i, "x": [1.5] * (i % 3), "tags": [{"a": i}], "who": {"name": f"n{i}"}} for i in range(9)]
    parquet.write_table(pa.Table.from_pylist(made), tmp_path / "a.parquet")
    convert(tmp_path / "a.parquet", tmp_path / "ours", num_workers=0)
    sample = Dataset(tmp_path / "ours")[5]
    assert (sample["id"], sample["x"].tolist(), sample["who"]) == (5, [1.5, 1.5], {"name": "n5"})


def test_a_column_with_missing_values_is_converted_to_json(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    made = [{"id": 1, "n": 5, "t": "a"}, {"id": 2, "n": None, "t": "b"}]
    parquet.write_table(pa.Table.from_pylist(made), tmp_path / "b.parquet")
    snapshot = convert(tmp_path / "b.parquet", tmp_path / "b", num_workers=0)
    assert [column.describe() for column in snapshot.schema.columns] == ["int", "json", "utf8"]
    assert Dataset(tmp_path / "b")[:] == made
