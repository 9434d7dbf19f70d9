"""The footer of a Parquet file, read by our own reader: it agrees with pyarrow, and damage is an error."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from blixt.data.errors import FormatError
from blixt.data.foreign.thrift import read_footer

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

TABLE = {
    "id": list(range(50)),
    "text": [f"t{i}" if i % 7 else None for i in range(50)],
    "late": [1.5] * 49 + [None],
    "tags": [["a"] * (i % 3) for i in range(50)],
    "nested": [{"a": i, "b": None} for i in range(50)],
    "a.dot": [True] * 50,
    "binary": [bytes([i]) * i for i in range(50)],
}


def file(**options: Any) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pa.table(TABLE), out, row_group_size=20, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    "options", [{}, {"version": "1.0"}, {"compression": "zstd"}, {"store_schema": False}]
)
def test_it_says_in_which_flat_columns_values_are_missing(options: dict[str, Any]) -> None:
    assert read_footer(memoryview(file(**options)), "a").missing == {"text", "late"}


def test_without_statistics_values_may_be_missing_anywhere() -> None:
    found = read_footer(memoryview(file(write_statistics=False)), "a").missing
    assert found == {"id", "text", "late", "a.dot", "binary"}


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", file()[:-1], file()[:-9] + b"\xff" * 4 + b"PAR1", b"x" * 99]
)
def test_what_is_no_whole_file_is_refused(content: bytes) -> None:
    with pytest.raises(FormatError, match="a is no Parquet file, or is cut short"):
        read_footer(memoryview(content), "a")


def test_a_flipped_bit_gives_another_answer_or_an_error_of_ours() -> None:
    content = file()
    size, refused = int.from_bytes(content[-8:-4], "little"), list[str]()
    for place in range(len(content) - 8 - size, len(content) - 8, 29):
        for bit in (0, 3, 7):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            try:
                read_footer(memoryview(flipped), "a")
            except FormatError as problem:
                refused.append(str(problem))
    assert len(refused) > 5
    assert all("its footer makes no sense" in text for text in refused)


DAMAGED = """
import sys
from blixt.data.errors import DataError
from blixt.data.foreign import ParquetDataset
content = bytearray(open(sys.argv[1], "rb").read())
size = int.from_bytes(content[-8:-4], "little")
errors = 0
for place in range(len(content) - 8 - size, len(content) - 8, 29):
    damaged = bytearray(content)
    damaged[place] = 0
    open(sys.argv[1], "wb").write(damaged)
    try:
        ParquetDataset(sys.argv[1])[:]
    except DataError:
        errors += 1
print(errors)
"""


def test_a_damaged_footer_never_ends_the_process(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(file())
    command = [sys.executable, "-c", DAMAGED, str(tmp_path / "a.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
