"""Inputs of every kind reach the function once each, in order."""

import io
import multiprocessing
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from blixt.data import (
    ALL_DONE,
    BuildError,
    Dataset,
    DatasetWriter,
    Loader,
    ParquetRows,
    ParquetTables,
    TarSamples,
    map,
    optimize,
)
from blixt.data.snapshot import load
from blixt.data.store import UnsupportedError

from .functions import as_it_is, batch_sum, file_name, number, produce, rows_of, sums, write_repr

DEADLINE_S = 60


def xs(folder: Path) -> list[int]:
    return [sample["x"] for sample in Dataset(folder)]


def test_a_generator_is_drawn_from_while_workers_work(tmp_path: Path) -> None:
    drawn: list[int] = []
    seen_before_the_end: list[int] = []

    def endless() -> Iterator[int]:
        for i in range(300):
            drawn.append(i)
            yield i

    def report(done: int, total: int | None) -> None:
        assert total is None
        if done and len(drawn) < 300:
            seen_before_the_end.append(done)

    optimize(number, endless(), tmp_path, num_workers=2, unit_size=5, progress=report)
    assert xs(tmp_path) == list(range(300))
    assert seen_before_the_end


def test_an_error_of_a_generator_of_inputs_is_passed_on(tmp_path: Path) -> None:
    def broken() -> Iterator[int]:
        yield from range(20)
        raise RuntimeError("the catalogue ends here")

    with pytest.raises(RuntimeError, match="the catalogue ends here"):
        optimize(number, broken(), tmp_path, num_workers=2, unit_size=5)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_queue_is_drained_until_all_done(tmp_path: Path, workers: int) -> None:
    context = multiprocessing.get_context("forkserver")
    queue = context.Queue(maxsize=8)
    producer = context.Process(target=produce, args=(queue, 100))
    producer.start()
    optimize(number, queue, tmp_path, num_workers=workers, unit_size=7)
    producer.join(DEADLINE_S)
    assert xs(tmp_path) == list(range(100))


def test_workers_start_before_a_slow_queue_has_ended(tmp_path: Path) -> None:
    queue: Any = multiprocessing.get_context("spawn").Queue()
    first_is_done = threading.Event()

    def feed() -> None:
        for i in range(5):
            queue.put(i)
        assert first_is_done.wait(DEADLINE_S)
        for i in range(5, 10):
            queue.put(i)
        queue.put(ALL_DONE)

    producer = threading.Thread(target=feed)
    producer.start()
    optimize(
        number,
        queue,
        tmp_path,
        num_workers=1,
        unit_size=5,
        progress=lambda done, total: first_is_done.set() if done >= 5 else None,
    )
    producer.join(DEADLINE_S)
    assert xs(tmp_path) == list(range(10))


def test_a_dataset_is_processed_once_more(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "first") as writer:
        for i in range(90):
            writer.write({"x": i, "text": f"t{i}"})
    optimize(as_it_is, Dataset(tmp_path / "first"), tmp_path / "second", num_workers=2)
    assert list(Dataset(tmp_path / "second")) == list(Dataset(tmp_path / "first"))


def test_a_loader_gives_its_batches(tmp_path: Path) -> None:
    optimize(number, range(30), tmp_path / "first", num_workers=0)
    loader = Loader(Dataset(tmp_path / "first"), batch_size=10, workers=0)
    optimize(batch_sum, loader, tmp_path / "second", num_workers=2, unit_size=1)
    assert xs(tmp_path / "second") == [sum(range(10)), sum(range(10, 20)), sum(range(20, 30))]


def test_a_hugging_face_dataset_is_read_in_the_workers(tmp_path: Path) -> None:
    import datasets

    rows = [{"x": i, "text": f"t{i}"} for i in range(50)]
    optimize(as_it_is, datasets.Dataset.from_list(rows), tmp_path / "map", num_workers=1)
    assert list(Dataset(tmp_path / "map")) == rows
    stream = datasets.Dataset.from_list(rows).to_iterable_dataset()
    optimize(as_it_is, stream, tmp_path / "stream", num_workers=0, unit_size=9)
    assert list(Dataset(tmp_path / "stream")) == rows


def tar(path: Path, samples: list[dict[str, Any]]) -> TarSamples:
    with webdataset.TarWriter(str(path), encoder=False) as writer:
        for sample in samples:
            writer.write(sample)
    return TarSamples(path)


def queue(items: list[int]) -> Any:
    filled: SimpleQueue[Any] = SimpleQueue()
    for item in [*items, ALL_DONE]:
        filled.put(item)
    return filled


def test_map_takes_inputs_of_every_kind(tmp_path: Path) -> None:
    import datasets

    rows = [{"x": i, "text": f"t{i}"} for i in range(9)]
    keyed = [{"__key__": f"{i}", "txt": b"%d" % i} for i in range(9)]
    with DatasetWriter(tmp_path / "first") as writer:
        for row in rows:
            writer.write(row)
    first = Dataset(tmp_path / "first")
    batches = [{"x": first.read_batch(range(low, low + 3))["x"]} for low in (0, 3, 6)]
    sources: dict[str, tuple[Any, list[Any]]] = {
        "generator": ((i for i in range(9)), list(range(9))),
        "queue": (queue(list(range(9))), list(range(9))),
        "dataset": (first, rows),
        "loader": (Loader(Dataset(tmp_path / "first"), 3, transform=only_x), batches),
        "parquet": (ParquetRows(parquet(tmp_path, 9, 4)), rows),
        "tar": (tar(tmp_path / "a.tar", keyed), keyed),
        "hugging face": (datasets.Dataset.from_list(rows), rows),
    }
    for name, (inputs, expected) in sources.items():
        map(write_repr, inputs, tmp_path / name, num_workers=0, unit_size=4)
        found = sorted(path.read_text() for path in (tmp_path / name).glob("*.txt"))
        assert found == sorted(repr(one) for one in expected), name


def only_x(sample: dict[str, Any]) -> dict[str, Any]:
    return {"x": sample["x"]}


def parquet(folder: Path, rows: int, group: int, name: str = "a.parquet") -> str:
    table = pa.table({"x": range(rows), "text": [f"t{i}" for i in range(rows)]})
    pq.write_table(table, folder / name, row_group_size=group)
    return str(folder / name)


def test_rows_of_parquet_files_are_dicts_and_units_end_with_row_groups(tmp_path: Path) -> None:
    files = [parquet(tmp_path, 25, 10, "a.parquet"), parquet(tmp_path, 7, 10, "b.parquet")]
    snapshot = optimize(as_it_is, ParquetRows(files), tmp_path / "out", num_workers=2, unit_size=10)
    expected = [{"x": i, "text": f"t{i}"} for i in [*range(25), *range(7)]]
    assert list(Dataset(tmp_path / "out")) == expected
    assert [shard.rows for shard in snapshot.shards] == [10, 10, 12]
    optimize(as_it_is, ParquetRows(files, columns=["x"]), tmp_path / "x", num_workers=0, unit_size=3)
    assert list(Dataset(tmp_path / "x")) == [{"x": row["x"]} for row in expected]


def test_row_groups_of_parquet_files_are_tables(tmp_path: Path) -> None:
    optimize(rows_of, ParquetTables(parquet(tmp_path, 25, 10)), tmp_path / "out", num_workers=2)
    assert xs(tmp_path / "out") == list(range(25))


def test_a_parquet_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"a.parquet has no column 'y'; it has text, x"):
        ParquetRows(parquet(tmp_path, 3, 3), columns=["x", "y"])


@pytest.mark.parametrize(
    ("reader", "elsewhere"), [(ParquetRows, "ParquetDataset"), (TarSamples, "WebDataset")]
)
def test_files_that_are_not_here_are_named_with_the_way_to_them(
    tmp_path: Path, reader: Any, elsewhere: str
) -> None:
    with pytest.raises(BuildError, match=r"there is no file .*/absent"):
        reader([tmp_path / "absent"])
    for several in (tmp_path, f"{tmp_path}/*.x"):
        with pytest.raises(BuildError, match=rf"means several files: pass blixt.data.foreign.{elsewhere}\("):
            reader(several)
    with pytest.raises(BuildError, match=rf"s3://b/x lies in a store: pass .*{elsewhere}\('s3://b/x'\)"):
        reader("s3://b/x")


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 but not really PAR1")
    with pytest.raises(BuildError, match=r"a.parquet is not a Parquet file that can be read"):
        ParquetRows(tmp_path / "a.parquet")


@pytest.mark.parametrize("inputs", ["folder", b"folder", Path("folder")])
def test_one_text_is_not_taken_for_a_list_of_letters(tmp_path: Path, inputs: Any) -> None:
    with pytest.raises(BuildError, match=r"the inputs are one text, .*folder.*; pass a list, or list_files"):
        optimize(as_it_is, inputs, tmp_path, num_workers=0)


def test_what_cannot_be_gone_through_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="the inputs are of type int, which cannot be gone through"):
        optimize(as_it_is, 5, tmp_path, num_workers=0)


@pytest.mark.parametrize("output", ["https://host/folder", "hf://datasets/owner/name"])
def test_an_output_that_is_only_read_is_refused_at_once(output: str) -> None:
    for build in (optimize, map):
        with pytest.raises(UnsupportedError, match=f"cannot write {output}: this kind of store is read-only"):
            build(as_it_is, [1], output, num_workers=0)
    with pytest.raises(UnsupportedError, match="read-only"):
        DatasetWriter(output)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_tar_samples_are_those_that_webdataset_wrote(tmp_path: Path, name: str) -> None:
    samples = [{"__key__": f"f/{i:03d}", "jpg": bytes([i] * i), "txt": str(i).encode()} for i in range(30)]
    with webdataset.TarWriter(str(tmp_path / name), encoder=False) as writer:
        for sample in samples:
            writer.write(sample)
    optimize(as_it_is, TarSamples(tmp_path / name), tmp_path / "out", num_workers=2, unit_size=4)
    assert list(Dataset(tmp_path / "out")) == samples


def test_a_damaged_tar_is_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("1.txt")
        info.size = 3000
        tar.addfile(info, io.BytesIO(bytes(3000)))
    (tmp_path / "a.tar").write_bytes(b"x" * 100)
    with pytest.raises(BuildError, match=r"a.tar is not a tar file that can be read"):
        TarSamples(tmp_path / "a.tar")


@pytest.mark.parametrize("inputs", [list(range(10)), np.arange(10), (i for i in range(10))])
def test_batch_size_groups_inputs(tmp_path: Path, inputs: Any) -> None:
    optimize(sums, inputs, tmp_path, num_workers=0, batch_size=4)
    assert list(Dataset(tmp_path)) == [{"x": 6, "count": 4}, {"x": 22, "count": 4}, {"x": 17, "count": 2}]


def test_weights_cut_units_of_equal_weight(tmp_path: Path) -> None:
    weights = [1] * 8 + [8] * 2
    snapshot = optimize(number, range(10), tmp_path, num_workers=0, weights=weights, unit_size=4)
    assert [shard.rows for shard in snapshot.shards] == [8, 1, 1]
    assert xs(tmp_path) == list(range(10))


def test_weights_must_fit_the_inputs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are 2 weights for 3 inputs"):
        optimize(number, range(3), tmp_path, weights=[1, 2], num_workers=0)
    with pytest.raises(ValueError, match="every weight must be positive"):
        optimize(number, range(3), tmp_path, weights=[1, 0, 2], num_workers=0)
    with pytest.raises(ValueError, match="need a list of inputs"):
        optimize(number, iter(range(3)), tmp_path, weights=[1, 0, 2], num_workers=0)


@pytest.mark.parametrize(("run", "count"), [(True, 10), (3, 3), (50, 40)])
def test_a_fast_dev_run_uses_the_first_inputs(tmp_path: Path, run: bool | int, count: int) -> None:
    optimize(number, range(40), tmp_path / "list", num_workers=0, fast_dev_run=run)
    optimize(number, iter(range(40)), tmp_path / "stream", num_workers=0, fast_dev_run=run)
    assert xs(tmp_path / "list") == xs(tmp_path / "stream") == list(range(count))


def test_the_largest_files_come_first_when_asked(tmp_path: Path) -> None:
    for name, size in {"a": 5, "b": 50, "c": 20}.items():
        (tmp_path / name).write_bytes(bytes(size))
    files = [str(tmp_path / name) for name in "abc"]
    optimize(file_name, files, tmp_path / "out", num_workers=0, reorder_files=True)
    assert [sample["name"] for sample in Dataset(tmp_path / "out")] == ["b", "c", "a"]


def test_a_set_and_the_values_of_a_dict_are_inputs_and_a_dict_is_not(tmp_path: Path) -> None:
    optimize(number, {1, 2, 3}, tmp_path / "set", num_workers=0)
    optimize(number, {"a": 1, "b": 2}.values(), tmp_path / "values", num_workers=0)
    assert sorted(xs(tmp_path / "set")) == [1, 2, 3]
    assert xs(tmp_path / "values") == [1, 2]
    with pytest.raises(BuildError, match=r"the inputs are a dict; pass list\(inputs.items\(\)\)"):
        optimize(number, {"a": 1}, tmp_path / "dict", num_workers=0)


def test_chunk_size_fills_every_shard_but_the_last(tmp_path: Path) -> None:
    optimize(number, range(100), tmp_path, num_workers=2, chunk_size=30)
    assert [shard.rows for shard in load(tmp_path).shards] == [30, 30, 30, 10]


def test_unordered_output_holds_the_same_samples(tmp_path: Path) -> None:
    optimize(number, range(100), tmp_path, num_workers=2, unit_size=10, keep_data_ordered=False)
    assert sorted(xs(tmp_path)) == list(range(100))
