"""Rows of any source, each with where it came from: files, folders, dataset objects."""

import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, cast

from blixt.llm.errors import CorpusError

TEXT_SUFFIXES = (".txt", ".md", ".rst")
MESSAGE_FIELDS = ("messages", "conversations")
SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", *TEXT_SUFFIXES)

Source = Any
"""What `load_examples` reads: a path or address, several of them, a dataset object, or rows."""


class Record(NamedTuple):
    """One row.

    Attributes:
        value: A row's fields, or the text of a text file.
        origin: Where it stands, for messages: "chats.jsonl:3".
    """

    value: Any
    origin: str


def read_records(source: Source, pattern: str | None = None) -> Iterator[Record]:
    """Go through the rows of a source, in its order.

    Args:
        source: See `load_examples`.
        pattern: Which files of a folder to read, as text whatever their suffix; None takes those with a known
            suffix.

    Raises:
        CorpusError: There is no such source, or a row cannot be read; the message says where.
    """
    if isinstance(source, str) and "://" in source:
        return _numbered(_dataset(source), source)
    if isinstance(source, (str, Path)):
        return _path(Path(source), pattern)
    if isinstance(source, Mapping):
        splits = ", ".join(map(str, cast("Mapping[Any, Any]", source)))
        raise CorpusError(f"the source holds several parts: choose one of {splits}")
    if not isinstance(source, Iterable):
        raise CorpusError(f"a {type(source).__name__} is no source of examples: give a path or rows")
    rows = cast("Iterable[Any]", source)
    if isinstance(rows, (list, tuple)):
        listed = cast("list[Any]", rows)
        if listed and all(isinstance(item, Path) for item in listed):
            return chain.from_iterable(_path(path, pattern) for path in listed)
    return _numbered(rows, type(rows).__name__)


def _path(path: Path, pattern: str | None) -> Iterator[Record]:
    if path.is_dir():
        return _folder(path, pattern)
    if not path.is_file():
        raise CorpusError(f"{path} does not exist: give a file or a folder of {', '.join(SUFFIXES)}")
    return _file(path, as_text=pattern is not None)


def _folder(path: Path, pattern: str | None) -> Iterator[Record]:
    if (path / "index.json").is_file() and pattern is None:
        return _numbered(_dataset(str(path)), str(path))
    if (path / "dataset_info.json").is_file() and pattern is None:
        return _numbered(_saved_by_datasets(path), str(path))
    found = sorted(
        p
        for p in path.rglob(pattern or "*")
        if p.is_file() and (pattern is not None or p.suffix.lower() in SUFFIXES)
    )
    if not found:
        raise CorpusError(f"{path} has no file of {pattern or ', '.join(SUFFIXES)}")
    return chain.from_iterable(_file(p, as_text=pattern is not None) for p in found)


def _file(path: Path, *, as_text: bool) -> Iterator[Record]:
    suffix = path.suffix.lower()
    if as_text or suffix not in SUFFIXES or suffix in TEXT_SUFFIXES:
        return iter([Record(_text(path), str(path))])
    if suffix == ".parquet":
        return _parquet(path)
    return _json(path) if suffix == ".json" else _json_lines(path)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} is not UTF-8 text: byte {error.start} is none of a character") from None


def _json_lines(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8") as file:
        number = 0
        try:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield Record(_object(json.loads(line), f"{path}:{number}"), f"{path}:{number}")
        except json.JSONDecodeError as error:
            raise CorpusError(
                f"{path}:{number} is not JSON: {error.msg} at column {error.colno}; a .jsonl file has one "
                "object a line"
            ) from None
        except UnicodeDecodeError as error:
            raise CorpusError(f"{path}:{number + 1} is not UTF-8: {error.reason}") from None


def _json(path: Path) -> Iterator[Record]:
    try:
        content: Any = json.loads(_text(path))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # one object a line, whatever the file is called
            yield from _json_lines(path)
            return
        raise CorpusError(f"{path}:{error.lineno} is not JSON: {error.msg} at column {error.colno}") from None
    if isinstance(content, dict):  # {"data": [...]}, or a single row
        held = cast("dict[str, Any]", content)
        (name, value), *others = held.items() or [("", None)]
        wraps = isinstance(value, list) and not others and name not in MESSAGE_FIELDS
        content = cast("Any", value) if wraps else [held]
    for number, row in enumerate(cast("list[Any]", content), 1):
        yield Record(_object(row, f"{path}[{number}]"), f"{path}[{number}]")


def _parquet(path: Path) -> Iterator[Record]:
    arrow, parquet = (_need(name, str(path), "parquet") for name in ("pyarrow", "pyarrow.parquet"))
    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield Record(row, f"{path} row {number}")
    except arrow.ArrowInvalid as error:
        raise CorpusError(f"{path} is no Parquet file, or is damaged: {error}") from None


def _dataset(location: str) -> Iterable[Any]:
    from blixt.data import Dataset
    from blixt.data.errors import DataError

    try:
        return Dataset(location, rank=0, world_size=1)
    except DataError as error:
        raise CorpusError(f"{location} cannot be read: {error}") from error


def _saved_by_datasets(path: Path) -> Iterable[Any]:
    return _need("datasets", str(path), "hf").load_from_disk(str(path))


def _need(module: str, where: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError:
        library = module.partition(".")[0]
        raise CorpusError(f"{where} needs {library}: pip install 'blixt[{extra}]'") from None


def _numbered(rows: Iterable[Any], name: str) -> Iterator[Record]:
    for number, row in enumerate(rows, 1):
        origin = f"{name} row {number}"
        yield Record(row if isinstance(row, str) else _object(row, origin), origin)


def _object(row: Any, origin: str) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise CorpusError(f"{origin} is a {type(row).__name__}: a row is an object with named fields")
    return {str(key): value for key, value in cast("Mapping[Any, Any]", row).items()}
