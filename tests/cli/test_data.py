"""blixt data: build, info, head, verify, convert, merge, cache; tables for people, JSON for programs."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from blixt.cli.data_keys import key_in
from blixt.cli.failure import CliError
from blixt.data import DatasetWriter
from client.server import blixt

FIXTURES = Path(__file__).parents[1] / "data" / "foreign" / "fixtures"
FUNCTIONS = """
from pathlib import Path

def sample(path):
    text = Path(path).read_text()
    return {"name": Path(path).name, "length": len(text), "text": text}

def doubled(row):
    return {"id": 2 * row["id"]}

not_a_function = 3
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "prepare.py").write_text(FUNCTIONS)
    (tmp_path / "texts").mkdir()
    for i in range(5):
        (tmp_path / "texts" / f"{i}.txt").write_text("blå " * i)
    return tmp_path


def facts(*words: str, cwd: Path) -> Any:
    done = blixt(*words, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def write(folder: Path, count: int, first: int = 0) -> None:
    with DatasetWriter(folder) as writer:
        for i in range(first, first + count):
            writer.write({"id": i, "raw": bytes(100)})


def test_a_function_in_a_file_builds_a_dataset_from_a_folder(files: Path) -> None:
    made = facts("data", "build", "prepare.py:sample", "texts", "-o", "out", "-w", "2", cwd=files)
    assert (made["rows"], made["version"]) == (5, 1)
    samples = facts("data", "head", "out", "-n", "2", cwd=files)
    assert samples[1] == {"name": "1.txt", "length": 4, "text": "blå "}


def test_inputs_come_from_patterns_and_lists_and_the_first_few_are_tried(files: Path) -> None:
    words = ("data", "build", "prepare.py:sample", "texts/[12].txt", "-o")
    assert facts(*words, "a", cwd=files)["rows"] == 2
    (files / "list").write_text("texts/3.txt\n\ntexts/4.txt\n")
    assert facts(*words[:3], "--inputs-from", "list", "-o", "b", "--try", "1", cwd=files)["rows"] == 1


def test_the_rows_of_a_parquet_file_are_inputs(files: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.Table.from_pylist([{"id": 3}, {"id": 4}]), files / "p.parquet")
    assert (
        facts("data", "build", "prepare.py:doubled", "p.parquet", "--rows", "-o", "a", cwd=files)["rows"] == 2
    )
    assert facts("data", "head", "a", cwd=files) == [{"id": 6}, {"id": 8}]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nope.py:f", "texts"], "There is no file nope.py."),
        (["prepare.py", "texts"], "does not name a function"),
        (["prepare.py:absent", "texts"], "has no function 'absent'"),
        (["prepare.py:not_a_function", "texts"], "has no function"),
        (["nope.module:f", "texts"], "there is no module 'nope'"),
        (["prepare.py:sample", "absent.txt"], "There is no file absent.txt."),
        (["prepare.py:sample"], "There are no inputs."),
    ],
)
def test_what_is_wrong_with_a_build_is_one_sentence(words: list[str], sentence: str, files: Path) -> None:
    done = blixt("data", "build", *words, "-o", "out", cwd=files)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dataset_that_is_there_is_not_overwritten_unasked(files: Path) -> None:
    write(files / "out", 1)
    words = ("data", "build", "prepare.py:sample", "texts", "-o", "out")
    done = blixt(*words, cwd=files)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert facts(*words, "--mode", "overwrite", cwd=files)["version"] == 2


def test_info_draws_columns_sizes_and_shards(tmp_path: Path) -> None:
    write(tmp_path / "d", 1200)
    shown = blixt("data", "info", "d", cwd=tmp_path).stdout
    assert "1,200" in shown
    assert [line.split()[:2] for line in shown.splitlines()[-2:]] == [["id", "int"], ["raw", "bytes"]]
    assert facts("data", "info", "d", cwd=tmp_path)["columns"] == {"id": "int", "raw": "bytes"}


def test_head_tells_large_values_by_their_size(tmp_path: Path) -> None:
    write(tmp_path / "d", 2)
    assert "100 B beginning" in blixt("data", "head", "d", cwd=tmp_path).stdout


def test_verify_names_shard_block_and_byte_range(tmp_path: Path) -> None:
    write(tmp_path / "d", 50)
    assert facts("data", "verify", "d", cwd=tmp_path)["ok"] is True
    [shard] = (tmp_path / "d" / "shards").iterdir()
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 0xFF
    shard.write_bytes(data)
    done = blixt("data", "verify", "d", cwd=tmp_path)
    assert done.returncode == 1
    assert shard.name in done.stderr
    assert "bytes" in done.stderr
    report = json.loads(blixt("data", "verify", "d", "--json", cwd=tmp_path).stdout)
    assert report["ok"] is False
    assert shard.name in report["problems"][0]


@pytest.mark.parametrize(
    ("folder", "rows"), [("litdata-0.2.76/tree", 10), ("mds/zstd", 10), ("webdataset", 3)]
)
def test_other_libraries_datasets_are_converted(folder: str, rows: int, tmp_path: Path) -> None:
    made = facts("data", "convert", str(FIXTURES / folder), "out", "-w", "0", cwd=tmp_path)
    assert made["rows"] == rows
    assert made["source_format"] == folder.split("-")[0].split("/")[0]
    assert facts("data", "verify", "out", cwd=tmp_path)["rows"] == rows


def test_an_encrypted_dataset_is_converted_with_its_password(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "litdata-0.2.76" / "fernet-chunk", tmp_path / "in")
    words = ("data", "convert", "in", "out", "-w", "0", "--key-file", "in/key.json")
    assert "needs --password" in blixt(*words, cwd=tmp_path).stderr
    assert facts(*words, "--password", "correct horse", cwd=tmp_path)["rows"] == 10


def test_an_option_of_another_format_and_pickles_are_refused(tmp_path: Path) -> None:
    done = blixt("data", "convert", str(FIXTURES / "mds" / "gz"), "out", "--column", "id", cwd=tmp_path)
    assert (done.returncode, done.stderr.startswith("error: A mds dataset does not know")) == (2, True)
    done = blixt("data", "convert", str(FIXTURES / "mds" / "pickle"), "out", "-w", "0", cwd=tmp_path)
    assert done.returncode == 1
    assert "is a pickle" in done.stderr


def test_datasets_of_equal_columns_are_merged_and_others_refused(tmp_path: Path) -> None:
    write(tmp_path / "a", 3)
    write(tmp_path / "b", 2, first=3)
    assert facts("data", "merge", "a", "b", "-o", "all", cwd=tmp_path)["rows"] == 5
    assert [sample["id"] for sample in facts("data", "head", "all", cwd=tmp_path)] == [0, 1, 2, 3, 4]
    with DatasetWriter(tmp_path / "other") as writer:
        writer.write({"name": "x"})
    done = blixt("data", "merge", "a", "other", "-o", "no", cwd=tmp_path)
    assert done.returncode == 1
    assert "columns differ" in done.stderr


def test_info_says_how_much_each_column_takes_and_which_versions_there_are(tmp_path: Path) -> None:
    write(tmp_path / "d", 1000)
    with DatasetWriter(tmp_path / "d", mode="append") as writer:
        writer.write({"id": 1, "raw": b"x"})
    shown = blixt("data", "info", "d", cwd=tmp_path).stdout
    assert "2 (and 1 other)" in shown
    assert "%" in shown.splitlines()[-1]


def test_the_cache_is_shown_and_cleared(tmp_path: Path) -> None:
    shown = facts("data", "cache", "--dir", "c", cwd=tmp_path)
    assert (shown["size_bytes"], shown["entries"]) == (0, [])
    cleared = facts("data", "cache", "--dir", "c", "--clear", cwd=tmp_path)
    assert cleared["freed_bytes"] == 0
    assert "Nothing is cached." in blixt("data", "cache", "--dir", "c", cwd=tmp_path).stderr


def test_an_encrypted_dataset_is_built_and_shown_with_a_key_file(files: Path) -> None:
    (files / "team.key").write_text(bytes(range(32)).hex() + "\n")
    (files / "raw.key").write_bytes(bytes(range(1, 33)))
    facts("data", "build", "prepare.py:sample", "texts", "-o", "out", "--encrypt", "team.key", cwd=files)
    assert facts("data", "head", "out", "-n", "1", "--key", "team.key", cwd=files)[0]["name"] == "0.txt"
    for words, sentence in (
        (["verify", "out"], "is encrypted with key 'team'"),
        (["head", "out", "--key", "raw.key"], "is encrypted with another key than the one given for 'team'"),
    ):
        done = blixt("data", *words, cwd=files)
        assert sentence in done.stderr
        assert (done.returncode != 0, "damaged" in done.stderr) == (True, False)


def test_a_key_file_holds_bytes_or_their_hex(tmp_path: Path) -> None:
    key = bytes(range(1, 33))
    (tmp_path / "hex").write_text(key.hex() + "\n")
    (tmp_path / "raw").write_bytes(key)
    assert key_in(str(tmp_path / "hex")) == key_in(str(tmp_path / "raw")) == key
    with pytest.raises(CliError, match=r"cannot read the key in .*absent: No such file"):
        key_in(str(tmp_path / "absent"))
