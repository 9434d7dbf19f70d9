"""LitData's functions on blixt, and its name on PYTHONPATH."""

import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from blixt.compat.litdata import (
    Image,
    Jpeg,
    StreamingDataset,
    StreamingRawDataset,
    Tensor,
    Text,
    UnsupportedArgument,
    dataset_update,
    is_complete_dataset,
    iter_webdataset_tar,
    list_media_folder,
    map,
    optimize,
    walk,
)
from blixt.compat.litdata.__main__ import folder
from blixt.compat.litdata.core.readers import ParquetReader
from blixt.compat.litdata.raw.indexer import BaseIndexer, FileIndexer, FileMetadata
from blixt.compat.litdata.streaming import Cache
from blixt.compat.litdata.utilities.encryption import FernetEncryption
from compat.litdata import recipes

SCRIPT = """
import litdata
import torch
from litdata import StreamingDataLoader, StreamingDataset, optimize
from litdata.streaming.dataset import StreamingDataset as Same
from litdata.streaming.item_loader import TokensLoader
from litdata.utilities.train_test_split import train_test_split

def square(i):
    return {"i": i, "square": torch.tensor([i * i])}

class Mine(StreamingDataset):
    def __getitem__(self, index):
        return super().__getitem__(index)["square"]

if __name__ == "__main__":
    assert Same is StreamingDataset
    optimize(square, list(range(20)), "out", chunk_size=5, num_workers=1, start_method="spawn")
    workers = {"num_workers": 1, "multiprocessing_context": "spawn"}
    batches = StreamingDataLoader(Mine("out"), batch_size=4, **workers)
    assert torch.cat(list(batches)).flatten().tolist() == [i * i for i in range(20)]
    print(litdata.__version__, len(StreamingDataset("out")))
"""


def test_a_script_that_imports_litdata_runs_with_spawned_workers(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    path = str(folder())  # what `python -m blixt.compat.litdata --path` prints; the page for arrivals runs it
    assert [name for name in os.listdir(path) if not name.startswith("__")] == ["litdata"]
    environment = {**os.environ, "PYTHONPATH": f"{path}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.stdout.split() == ["0.2.76", "20"], done.stderr


def test_generators_yield_any_number_of_samples_and_a_queue_feeds_it(tmp_path: Path) -> None:
    optimize(recipes.some, list(range(6)), str(tmp_path / "a"), chunk_bytes="1MB", num_workers=0)
    assert [sample["i"] for sample in StreamingDataset(str(tmp_path / "a"))] == [1, 2, 2, 4, 5, 5]
    queue: Any = multiprocessing.get_context("spawn").Queue()
    for item in (5, 6, "ALL_DONE"):
        queue.put(item)
    optimize(recipes.number, queue=queue, output_dir=str(tmp_path / "b"), chunk_size=2, num_workers=0)
    assert list(StreamingDataset(str(tmp_path / "b"))) == [5, 6]


def test_modes_append_and_overwrite_and_the_default_refuses(tmp_path: Path) -> None:
    def run(items: list[int], **options: Any) -> list[int]:
        optimize(recipes.number, items, str(tmp_path), chunk_size=5, num_workers=0, **options)
        return list(StreamingDataset(str(tmp_path)))

    assert run([1, 2]) == [1, 2]
    with pytest.raises(RuntimeError, match="mode='append'"):
        run([3])
    assert run([3], mode="append") == [1, 2, 3]
    assert run([4], mode="overwrite") == [4]
    with pytest.raises(ValueError, match="config of the optimized dataset is different"):
        optimize(recipes.sample, [1], str(tmp_path), chunk_size=5, num_workers=0, mode="overwrite")
    assert list(StreamingDataset(str(tmp_path))) == [4]


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({}, ValueError, "Either `chunk_size` or `chunk_bytes`"),
        ({"chunk_size": 1, "inputs": []}, ValueError, "should be non empty"),
        ({"chunk_size": 1, "inputs": None}, ValueError, "At least one of"),
        ({"chunk_size": 1, "mode": "x"}, ValueError, "The provided `mode`"),
        ({"chunk_size": 1, "num_nodes": 2}, UnsupportedArgument, "executor='ranks'"),
        ({"chunk_size": 1, "storage_options": {"what": 1}}, UnsupportedArgument, "is not known here"),
    ],
)
def test_wrong_and_unsupported_arguments_are_said(
    arguments: dict[str, Any], error: type[Exception], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=sentence):
        optimize(recipes.number, **{"inputs": [1], "output_dir": str(tmp_path / "o"), **arguments})


def test_an_encrypted_and_compressed_dataset_opens_with_its_password(tmp_path: Path) -> None:
    key = FernetEncryption("correct horse", level="chunk")
    key.save(tmp_path / "key")
    options: dict[str, Any] = {"chunk_size": 3, "num_workers": 0, "compression": "zstd"}
    optimize(recipes.sample, list(range(4)), str(tmp_path / "o"), encryption=key, **options)
    loaded = FernetEncryption.load(tmp_path / "key", "correct horse")
    assert StreamingDataset(str(tmp_path / "o"), encryption=loaded)[3]["i"] == 3
    with pytest.raises(Exception, match="encrypted"):
        StreamingDataset(str(tmp_path / "o"))[0]


def test_a_path_may_hold_the_time(tmp_path: Path) -> None:
    optimize(recipes.number, [1, 2], str(tmp_path / "of-{%Y}-{%m}"), chunk_size=2, num_workers=0)
    [folder] = tmp_path.iterdir()
    assert re.fullmatch(r"of-\d{4}-\d\d", folder.name)
    assert list(StreamingDataset(str(folder))) == [1, 2]


def test_map_writes_files_and_walk_finds_them(tmp_path: Path) -> None:
    map(recipes.write_file, list(range(5)), str(tmp_path / "o"), num_workers=1)
    assert sorted(
        name for *_, files in walk(str(tmp_path / "o")) for name in files if name.endswith(".txt")
    ) == [f"{i}.txt" for i in range(5)]
    with pytest.raises(RuntimeError, match="not empty"):
        map(recipes.write_file, [1], str(tmp_path / "o"), num_workers=0, error_when_not_empty=True)


def test_a_parquet_reader_gives_parts_of_files(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.Table.from_pylist([{"id": i} for i in range(25)]), tmp_path / "a.parquet")
    reader = ParquetReader(num_rows=10, to_pandas=False)
    inputs = [str(tmp_path / "a.parquet")]
    optimize(recipes.table_length, inputs, str(tmp_path / "o"), chunk_size=9, num_workers=0, reader=reader)
    assert [sample["rows"] for sample in StreamingDataset(str(tmp_path / "o"))] == [10, 10, 5]


@pytest.mark.parametrize("group", [4, 10, 100])
@pytest.mark.parametrize("num_rows", [1, 7, 25, 90])
def test_parts_of_a_parquet_file_hold_each_row_once(tmp_path: Path, group: int, num_rows: int) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = str(tmp_path / "a.parquet")
    parquet.write_table(pa.table({"id": range(25), "even": [i % 2 == 0 for i in range(25)]}), path, group)

    def ids(**options: Any) -> list[list[int]]:
        reader = ParquetReader("unused", num_rows, to_pandas=False, **options)
        return [reader.read(part)["id"].to_pylist() for part in reader.remap_items([path], 1)]

    parts = [list(range(25))[low : low + num_rows] for low in range(0, 25, num_rows)]
    assert ids(columns=["id"]) == parts
    assert ids(columns=["id"], filters=[("even", "=", True)]) == [
        [i for i in part if i % 2 == 0] for part in parts
    ]
    pandas = ParquetReader("unused", num_rows)
    frames = [pandas.read(part) for part in pandas.remap_items([path], 1)]
    assert [list(frame["id"]) for frame in frames] == parts


def test_typed_wrappers_say_what_a_value_is(tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    import numpy as np

    pixels = np.zeros((4, 6, 3), np.uint8)
    (tmp_path / "caption.txt").write_text("blå")

    def sample(_: int) -> dict[str, Any]:
        return {
            "image": Image(array=pixels, format="png"),
            "jpeg": Jpeg(array=pixels, quality=80, max_quality=None),
            "text": Text(path=str(tmp_path / "caption.txt")),
            "tensor": Tensor(array=pixels),
        }

    optimize(sample, [0], str(tmp_path / "o"), chunk_size=1, num_workers=0)
    found = StreamingDataset(str(tmp_path / "o"))[0]
    assert found["image"].shape == found["jpeg"].shape == (3, 4, 6)
    assert (found["text"], found["tensor"].shape) == ("blå", (4, 6, 3))


def test_an_object_that_only_pickle_could_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="which LitData would pickle"):
        optimize(lambda _: {"x": {1, 2}}, [0], str(tmp_path / "o"), chunk_size=1, num_workers=0)


def test_a_cache_is_written_by_number_and_read_back(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "c"), chunk_size=3)
    for i in range(7):
        cache[i] = {"i": i}
    assert not cache.filled
    cache.done()
    cache.merge()
    assert cache.filled
    assert (len(cache), cache[4]) == (7, {"i": 4})
    assert len(StreamingDataset(str(tmp_path / "c"))) == 7


class Pairs(StreamingRawDataset):
    """Groups files, as LitData's users do."""

    def setup(self, files: list[FileMetadata]) -> list[list[FileMetadata]]:
        by_stem: dict[str, list[FileMetadata]] = {}
        for file in sorted(files, key=lambda file: file.path):
            by_stem.setdefault(Path(file.path).stem, []).append(file)
        return [group for group in by_stem.values() if len(group) == 2]


def test_raw_files_are_samples_alone_or_grouped(tmp_path: Path) -> None:
    for name in ("a.img", "a.seg", "b.img", "b.seg", "c.img"):
        (tmp_path / name).write_bytes(name.encode())
    alone = StreamingRawDataset(str(tmp_path))
    assert sorted(alone[i] for i in range(len(alone))) == [b"a.img", b"a.seg", b"b.img", b"b.seg", b"c.img"]
    pairs = Pairs(str(tmp_path), transform=lambda files: [bytes(file).decode() for file in files])
    assert [pairs[i] for i in range(len(pairs))] == [["a.img", "a.seg"], ["b.img", "b.seg"]]
    assert pairs.__getitems__([1]) == [["b.img", "b.seg"]]
    with pytest.raises(ValueError, match="cache_files"):
        StreamingRawDataset(str(tmp_path), item_type="path")


class Listed(BaseIndexer):
    """Finds what it was told to."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def discover_files(self, input_dir: str, storage_options: Any) -> list[FileMetadata]:
        return [FileMetadata(f"{input_dir}/{name}", 0) for name in self.names]


def test_raw_files_are_chosen_by_an_indexer(tmp_path: Path) -> None:
    for name in ("a.IMG", "b.seg", "deep/c.img"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    found = StreamingRawDataset(str(tmp_path), indexer=FileIndexer(extensions=[".img"]))
    assert [found[i] for i in range(len(found))] == [b"a.IMG", b"deep/c.img"]
    assert found.items[0].to_dict() == {"path": f"{tmp_path}/a.IMG", "size": 5}
    assert FileMetadata.from_dict(found.items[0].to_dict()) == found.items[0]
    named = StreamingRawDataset(str(tmp_path), indexer=Listed("deep/c.img", "b.seg"))
    assert [named[i] for i in range(len(named))] == [b"deep/c.img", b"b.seg"]
    with pytest.raises(ValueError, match="gone, which is no file below"):
        StreamingRawDataset(str(tmp_path), indexer=Listed("gone"))


MACHINE = """
import sys
from blixt.compat.litdata import optimize
from compat.litdata.recipes import number
optimize(number, list(range(40)), sys.argv[1], chunk_size=5, num_workers=0, verbose=False)
"""


def test_litdatas_variables_share_a_build_between_machines(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    machines = [
        subprocess.Popen(
            [sys.executable, "-c", MACHINE, tmp_path],
            env={
                **os.environ,
                "PYTHONPATH": path,
                "DATA_OPTIMIZER_NUM_NODES": "2",
                "DATA_OPTIMIZER_NODE_RANK": str(rank),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        problems = [one.communicate(timeout=200)[1] for one in machines]
    finally:
        for one in machines:
            one.kill()
    assert [one.returncode for one in machines] == [0, 0], problems
    assert list(StreamingDataset(str(tmp_path))) == list(range(40))


def test_samples_are_replaced_by_key(tmp_path: Path) -> None:
    place = str(tmp_path / "o")
    optimize(
        recipes.sample,
        list(range(4)),
        place,
        chunk_size=2,
        num_workers=0,
        key_fn=lambda sample: f"k{sample['i']}",
    )
    assert StreamingDataset(place).get_by_key("k2")["i"] == 2
    with dataset_update(place) as update:
        update["k2"] = {**recipes.sample(2), "i": 20}
        update.commit()
        with pytest.raises(RuntimeError, match="after commit"):
            update["k1"] = recipes.sample(1)
    with dataset_update(place) as update:
        update["gone"] = recipes.sample(1)
        with pytest.raises(KeyError, match="Unknown dataset key"):
            update.commit()
    assert StreamingDataset(place)["k2"]["i"] == 20
    assert is_complete_dataset(place)
    assert not is_complete_dataset(str(tmp_path / "nope"))
    optimize(recipes.number, [1], str(tmp_path / "none"), chunk_size=2, num_workers=0)
    with pytest.raises(FileNotFoundError, match="keys/"):
        dataset_update(str(tmp_path / "none"))
    with pytest.raises(KeyError, match="keys/"):
        StreamingDataset(str(tmp_path / "none"))["k2"]


def test_class_folders_are_listed_and_tars_iterated(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.JPG").write_bytes(b"x")
    assert list_media_folder(str(tmp_path)) == [{"path": str(tmp_path / "cat" / "1.JPG"), "label": "cat"}]
    tar = Path(__file__).parents[2] / "data" / "foreign" / "fixtures" / "webdataset" / "shard-000001.tar"
    [sample] = iter_webdataset_tar(str(tar))
    assert (sample["__key__"], sample["json"]) == ("train/0002", b'{"id": 2}')


def test_a_local_function_makes_workers_fork(tmp_path: Path) -> None:
    optimize(lambda i: (i, i * i), [1, 2, 3], str(tmp_path), chunk_size=2, num_workers=1)
    assert StreamingDataset(str(tmp_path))[:] == [(1, 1), (2, 4), (3, 9)]


def test_lightnings_variable_names_the_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    optimize(recipes.number, list(range(10)), str(tmp_path), chunk_size=5, num_workers=0)
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("GLOBAL_RANK", "1")
    dataset = StreamingDataset(str(tmp_path))
    assert (dataset.drop_last, len(dataset), dataset.rows.rank) == (True, 5, 1)
