"""What a key is: a text, a number or bytes; where in a sample it is found; how it is stored and hashed."""

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, cast

import numpy as np

from blixt.data.errors import SchemaError
from blixt.data.types import Text

Key = str | int | bytes
KeyOf = str | Callable[[Any], Key]
"""The path of the field that is the key, such as `"meta.id"`, or a function from a sample to its key."""


def key_bytes(key: Any) -> bytes:
    """Return a key as it is stored: a letter for its type, then its bytes; keys of different types differ.

    Raises:
        TypeError: when it is no text, number or bytes.

    Example:
        >>> key_bytes("a"), key_bytes(b"a"), key_bytes(7)
        (b'sa', b'ba', b'i7')
    """
    if isinstance(key, Text):
        key = key.value
    if isinstance(key, str):
        return b"s" + key.encode()
    if isinstance(key, (bytes, bytearray)):
        return b"b" + bytes(key)
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        return b"i%d" % int(cast("int", key))
    raise TypeError(f"a key must be a str, an int or bytes, got {type(key).__name__}")


def key_hash(stored: bytes) -> int:
    """Return the number by which a stored key is sorted."""
    return int.from_bytes(blake2b(stored, digest_size=8).digest(), "little")


def shown(stored: bytes) -> str:
    """Return a stored key as messages show it."""
    return (
        stored[1:].decode(errors="replace")
        if stored[:1] == b"i"
        else repr(stored[1:].decode(errors="replace"))
    )


def key_getter(key: KeyOf) -> Callable[[Any], bytes]:
    """Return the function from a sample to its stored key.

    Raises:
        SchemaError: when called with a sample that has no such field, or another type in it.
    """
    find = _field_getter(key) if isinstance(key, str) else key

    def get(sample: Any) -> bytes:
        try:
            return key_bytes(find(sample))
        except (KeyError, IndexError, TypeError, ValueError) as problem:
            raise SchemaError(f"it has no key {key!r} ({type(problem).__name__}: {problem})") from None

    return get


def _field_getter(path: str) -> Callable[[Any], Any]:
    def get(sample: Any) -> Any:
        node: Any = sample
        if path == "value" and type(node) not in (dict, list, tuple):
            return node
        for step in path.split("."):
            node = node[step if hasattr(node, "keys") else int(step)]
        return node

    return get
