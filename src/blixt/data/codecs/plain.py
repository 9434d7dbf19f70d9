"""Text, bytes, JSON, whole files, and pickles for those who insist."""

import json
import pickle
from importlib import import_module
from pathlib import Path
from typing import Any

from blixt.data.errors import MissingDependencyError
from blixt.data.types import File, Json, Pickle, StoredFile, Text

_BYTES: tuple[type, ...] = (bytes, bytearray, memoryview)
_NAME_BYTES = 4


class TextCodec:
    """UTF-8."""

    name = "utf8"

    def encode(self, value: Any) -> bytes:
        """Return the text's UTF-8."""
        if type(value) is Text:
            value = value.value
        if not isinstance(value, str):
            raise TypeError(f"expected str, got {type(value).__name__}")
        return value.encode()

    def decode(self, stored: memoryview) -> str:
        """Return the text."""
        return str(stored, "utf-8")


class BytesCodec:
    """Bytes as they are."""

    name = "bytes"

    def encode(self, value: Any) -> bytes:
        """Return the bytes."""
        if type(value) is bytes:
            return value
        if not isinstance(value, _BYTES):
            raise TypeError(f"expected bytes, got {type(value).__name__}")
        return bytes(value)

    def decode(self, stored: memoryview) -> bytes:
        """Return a copy of the bytes."""
        return bytes(stored)


class JsonCodec:
    """JSON in UTF-8, without spaces."""

    name = "json"

    def encode(self, value: Any) -> bytes:
        """Return the value's JSON."""
        if type(value) is not Json:
            raise TypeError(f"expected Json(...), got {type(value).__name__}")
        try:
            return json.dumps(
                value.value, ensure_ascii=False, allow_nan=False, separators=(",", ":")
            ).encode()
        except RecursionError:
            raise ValueError("the value is nested too deeply for JSON") from None

    def decode(self, stored: memoryview) -> Any:
        """Return the value."""
        try:
            return json.loads(bytes(stored))
        except RecursionError:
            raise ValueError("its JSON is nested too deeply") from None


class FileCodec:
    """A file's name (u32 length, UTF-8) and its bytes."""

    name = "file"

    def encode(self, value: Any) -> bytes:
        """Return name and content, read now when the value is a path."""
        if type(value) is not File:
            raise TypeError(f"expected File(...), got {type(value).__name__}")
        name = value.name or ("" if isinstance(value.value, _BYTES) else Path(value.value).name)
        encoded = name.encode()
        return len(encoded).to_bytes(_NAME_BYTES, "little") + encoded + read_bytes(value.value, "File")

    def decode(self, stored: memoryview) -> StoredFile:
        """Return name and bytes."""
        end = _NAME_BYTES + int.from_bytes(stored[:_NAME_BYTES], "little")
        if end > len(stored) or len(stored) < _NAME_BYTES:
            raise ValueError("it ends before its name does")
        return StoredFile(str(stored[_NAME_BYTES:end], "utf-8"), bytes(stored[end:]))


class PickleCodec:
    """A pickle; writers and readers refuse it unless they were told `allow_pickle=True`."""

    name = "pickle"

    def encode(self, value: Any) -> bytes:
        """Return the object's pickle."""
        if type(value) is not Pickle:
            raise TypeError(f"expected Pickle(...), got {type(value).__name__}")
        try:
            return pickle.dumps(value.value, pickle.HIGHEST_PROTOCOL)
        except (pickle.PicklingError, AttributeError) as problem:
            raise ValueError(f"cannot be pickled: {problem}") from None

    def decode(self, stored: memoryview) -> Any:
        """Return the object."""
        return pickle.loads(stored)


def optional(module: str, what: str) -> Any:
    """Import a library that only some column types need.

    Raises:
        MissingDependencyError: when it is not installed.
    """
    try:
        return import_module(module)
    except (ImportError, OSError):
        raise MissingDependencyError(f"{what}: pip install 'blixt[media]'") from None


def read_bytes(value: Any, kind: str) -> bytes:
    """Return bytes as they are, and the content of the file that a path names.

    Raises:
        TypeError: when the value is neither.
        ValueError: when the file cannot be read.
    """
    if type(value) is bytes:
        return value
    if isinstance(value, _BYTES):
        return bytes(value)
    if not isinstance(value, (str, Path)):
        raise TypeError(f"{kind} holds a {type(value).__name__}; give bytes or a path")
    try:
        return Path(value).read_bytes()
    except OSError as problem:
        raise ValueError(f"cannot read {value}: {problem.strerror}") from None
