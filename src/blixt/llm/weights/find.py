"""Which files in a directory are the weights, opened as one source."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from blixt.llm.errors import WeightsError
from blixt.llm.weights.safetensors_file import SafetensorsFile
from blixt.llm.weights.safetensors_write import SAVE_ID
from blixt.llm.weights.source import Shards, Source
from blixt.llm.weights.torch_file import TorchFile

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_WHOLE = (SINGLE, INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json")
# Later parts of a split GGUF, adapters, and what transformers' trainer leaves.
_NO_START = re.compile(r".*-(?!00001)\d{5}-of-\d{5}\.gguf|adapter_model\.|training_args\.bin|optimizer\.")
_PICKLED = (".bin", ".pt", ".pth")


def open_source(path: str | Path) -> Source:
    """The tensors of a checkpoint: a directory, or one file of any known format.

    In a directory `model.safetensors` is looked for first, then its index, then `pytorch_model.bin` and its
    index, then whatever single file of weights there is.

    Raises:
        WeightsError: There are no weights, or they are damaged.
    """
    path = Path(path)
    if path.is_dir():
        return _open_directory(path)
    if path.name.endswith(".index.json"):
        return _open_index(path)
    if path.suffix == ".gguf":
        from blixt.llm.weights.gguf.read import open_gguf

        return open_gguf(path)
    if path.suffix in _PICKLED:
        return TorchFile(path)
    return SafetensorsFile(path)


def weight_files(path: str | Path) -> list[Path]:
    """The files that `open_source` would read, without opening the weights themselves.

    Raises:
        WeightsError: There are none, or an index is damaged.
    """
    path = Path(path)
    if path.is_dir():
        path = _main_file(path)
    if path.name.endswith(".index.json"):
        return [path.parent / name for name in sorted(set(_read_index(path).values()))]
    return [path]


def _open_directory(directory: Path) -> Source:
    return open_source(_main_file(directory))


def _main_file(directory: Path) -> Path:
    for name in _WHOLE:
        if (directory / name).exists():
            return directory / name
    if (directory / "lit_model.pth").exists():
        raise WeightsError(
            f"{directory} is a litgpt checkpoint: run `blixt llm convert {directory} NEW_DIRECTORY` first"
        )
    for suffix in (".safetensors", ".gguf", ".bin"):
        found = sorted(file for file in directory.glob(f"*{suffix}") if not _NO_START.match(file.name))
        if len(found) == 1:
            return found[0]
        if found:
            raise WeightsError(
                f"{directory} holds {len(found)} {suffix} files and no index: name the one to read, "
                f"such as {found[0].name}"
            )
    raise WeightsError(f"{directory} holds no weights: neither {SINGLE} nor an index, .bin or .gguf file")


def _open_index(index: Path) -> Source:
    weight_map = _read_index(index)
    files = [index.parent / name for name in sorted(set(weight_map.values()))]
    _check_all_there(index, files)
    if index.name.startswith("pytorch_model"):
        return Shards(index.parent, [TorchFile(file) for file in files], weight_map)
    parts = [SafetensorsFile(file) for file in files]
    _check_one_save(index, parts)
    return Shards(index.parent, parts, weight_map)


def _check_one_save(index: Path, parts: list[SafetensorsFile]) -> None:
    """Files that this library wrote say which save they are of; a save that broke off mixes two."""
    wanted = _read_json(index).get("metadata", {}).get(SAVE_ID, "")
    for part in parts:
        if wanted and part.metadata.get(SAVE_ID, wanted) != wanted:
            raise WeightsError(f"{part.where} is of another save than {index.name}: one of them broke off")


def _check_all_there(index: Path, files: Iterable[Path]) -> None:
    missing = [file.name for file in files if not file.exists()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise WeightsError(f"{index.parent} lacks the shard {missing[0]}{more} that {index.name} names")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: Any = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{path} does not exist") from None
    except ValueError:
        raise WeightsError(f"{path} is damaged: it is not JSON") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{path} is damaged: it is not a JSON object")
    return cast("dict[str, Any]", content)


def _read_index(index: Path) -> dict[str, str]:
    try:
        weight_map = cast("dict[str, str]", _read_json(index)["weight_map"])
        names = {str(name): str(file) for name, file in weight_map.items()}
    except (KeyError, TypeError, AttributeError):
        raise WeightsError(f"{index} is damaged: it has no weight_map") from None
    outside = [file for file in names.values() if Path(file).name != file]
    if outside or not names:
        raise WeightsError(f"{index} is damaged: it names {(outside or ['no file'])[0]!r}")
    return names
