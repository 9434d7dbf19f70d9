"""Whether a checkpoint's numbers are as they were written: files of this library carry a checksum."""

import zlib
from pathlib import Path

from blixt.llm.errors import WeightsError
from blixt.llm.weights.find import weight_files
from blixt.llm.weights.safetensors_file import SafetensorsFile
from blixt.llm.weights.safetensors_write import CHECKSUM

_PIECE_BYTES = 64 << 20


def verify(path: str | Path) -> int:
    """Read every file that carries a checksum and compare: about a second a gigabyte.

    Args:
        path: A directory or a file of weights.

    Returns:
        How many files were compared; files of other writers carry none.

    Raises:
        WeightsError: A file's numbers changed since it was written; it is named.
    """
    sound = 0
    for file in weight_files(path):
        opened = SafetensorsFile(file) if file.suffix == ".safetensors" else None
        if opened is None or CHECKSUM not in opened.metadata:
            continue
        if _crc32(file, opened.data_start) != opened.metadata[CHECKSUM]:
            raise WeightsError(f"{file} is damaged: its numbers changed since it was written")
        sound += 1
    return sound


def _crc32(file: Path, start: int) -> str:
    crc = 0
    with file.open("rb") as opened:
        opened.seek(start)
        while piece := opened.read(_PIECE_BYTES):
            crc = zlib.crc32(piece, crc)
    return f"{crc:08x}"
