"""Write a GGUF file tensor by tensor: metadata, tokenizer, tensors in the chosen number format."""

import os
import re
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from blixt.llm.errors import WeightsError
from blixt.llm.weights.gguf.encode import FORMATS, Format
from blixt.llm.weights.gguf.header import ALIGNMENT, MAGIC

_VERSION = 3
_TYPE_OF = {bool: (7, "?"), float: (6, "f")}
_OF_TOKENS = ("token_embd.weight", "output.weight")
_ALWAYS_WHOLE = (".bias", "ffn_gate_inp", "norm", "rope_f", "position_embd", "attn_sinks", "exp_probs_b")


@dataclass(frozen=True)
class Announced:
    """A tensor to be written.

    Attributes:
        name: In the file.
        shape: As torch orders it.
        format: Of its numbers.
    """

    name: str
    shape: tuple[int, ...]
    format: Format

    @property
    def size_bytes(self) -> int:
        """Its size in the file, with the padding after it."""
        return -(-self.format.size_bytes(self.shape) // ALIGNMENT) * ALIGNMENT


def format_for(name: str, shape: tuple[int, ...], wanted: Format, layers: int = 0) -> Format:
    """The format a tensor is kept in: what llama.cpp adds or multiplies by number stays float32, and what
    turns tokens into vectors and back has more bits than the rest.

    Args:
        name: In the file.
        shape: Of the tensor.
        wanted: The file's format.
        layers: Of the model: mixtures keep some of them in a better format.
    """
    if len(shape) < 2 or any(part in name for part in _ALWAYS_WHOLE):
        return FORMATS["f32"]
    if name in _OF_TOKENS and wanted.dtype is None:
        wanted = FORMATS[wanted.outer]
    elif wanted.rest and "_exps." not in name:
        wanted = FORMATS[wanted.rest]
    elif wanted.better and _matters(name, layers):
        wanted = FORMATS[wanted.better]
    while not wanted.fits(shape):
        wanted = FORMATS[wanted.instead]
    return wanted


def _matters(name: str, layers: int) -> bool:
    """Values and ways back to the stream in the first and last eighth of the layers, and in every third."""
    match = re.fullmatch(r"blk\.(\d+)\.(attn_v|ffn_down|ffn_down_exps)\.weight", name)
    if match is None:
        return False
    layer, eighth = int(match[1]), layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def write_gguf(
    path: Path,
    metadata: Mapping[str, Any],
    tensors: list[Announced],
    read: Callable[[], Iterator[tuple[str, Tensor]]],
) -> None:
    """Write a file; it appears whole or not at all.

    Args:
        path: Of the file.
        metadata: Values by key: texts, numbers, lists of one kind.
        tensors: What will come, in order.
        read: Gives the tensors in that order; one is in memory at a time.

    Raises:
        WeightsError: The disk has no room, or the stream does not give what was announced.
    """
    header = _header(metadata, tensors)
    needed = len(header) + sum(tensor.size_bytes for tensor in tensors)
    if (free := shutil.disk_usage(path.parent).free) < needed:
        raise WeightsError(f"{path} needs {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB free")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(header)
            for expected, (name, tensor) in zip(tensors, read(), strict=True):
                if (name, tuple(tensor.shape)) != (expected.name, expected.shape):
                    raise WeightsError(f"{path}: {name} came where {expected.name} was announced")
                raw = cast("Any", expected.format.encode(tensor.detach().cpu()).numpy())
                file.write(memoryview(raw))
                file.write(b"\0" * (-raw.nbytes % ALIGNMENT))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _header(metadata: Mapping[str, Any], tensors: list[Announced]) -> bytes:
    parts = [MAGIC, struct.pack("<IQQ", _VERSION, len(tensors), len(metadata))]
    for key, value in metadata.items():
        kind, raw = _value(key, value)
        parts += [_text(key), struct.pack("<I", kind), raw]
    at = 0
    for tensor in tensors:
        shape = tensor.shape[::-1]
        parts += [_text(tensor.name), struct.pack(f"<I{len(shape)}Q", len(shape), *shape)]
        parts.append(struct.pack("<IQ", tensor.format.kind, at))
        at += tensor.size_bytes
    header = b"".join(parts)
    return header + b"\0" * (-len(header) % ALIGNMENT)


def _value(key: str, value: Any) -> tuple[int, bytes]:
    """A value's type and bytes."""
    if isinstance(value, str):
        return 8, _text(value)
    if isinstance(value, list | tuple):
        items = [_item(key, item) for item in cast("list[Any]", value)]
        kinds = {kind for kind, _ in items}
        if len(kinds) > 1:
            raise WeightsError(f"the metadata {key} mixes kinds of values, which GGUF cannot keep")
        inner = kinds.pop() if kinds else 8
        return 9, struct.pack("<IQ", inner, len(items)) + b"".join(raw for _, raw in items)
    if type(value) in _TYPE_OF:
        kind, code = _TYPE_OF[type(value)]
        return kind, struct.pack(f"<{code}", value)
    if isinstance(value, int) and -(1 << 31) <= value < 1 << 32:
        return (4, struct.pack("<I", value)) if value >= 0 else (5, struct.pack("<i", value))
    raise WeightsError(f"the metadata {key} is {value!r}, which GGUF cannot keep")


def _item(key: str, value: Any) -> tuple[int, bytes]:
    """A value in a list: integers are int32 there, as readers of token types expect."""
    if isinstance(value, int) and not isinstance(value, bool) and -(1 << 31) <= value < 1 << 31:
        return 5, struct.pack("<i", value)
    return _value(key, value)


def _text(text: str) -> bytes:
    raw = text.encode("utf-8", errors="surrogateescape")
    return struct.pack("<Q", len(raw)) + raw
