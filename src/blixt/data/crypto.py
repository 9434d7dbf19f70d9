"""AES-256-GCM per block: a key that the caller gives and that is never stored.

Each shard derives a key of its own from the caller's key and 32 random bytes, so a nonce may simply be the
place of the block; `FORMAT.md` says how. What stays readable without the key: column names and types, the
number of rows, and the sizes of the blocks.
"""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from blixt.data.errors import DataError, DecryptionError, FormatError

Key = bytes | Callable[[str], bytes]
"""A key of at least 16 bytes, or a function from the key's id to it (a vault's client, say)."""
TAG_BYTES = 16
_MIN_KEY_BYTES = 16
_SALT_BYTES = 32
_PLACE = struct.Struct("<IQ")


@dataclass(frozen=True, slots=True)
class Encryption:
    """How a writer encrypts.

    Args:
        key: the key, or a function that is called with `key_id` and returns it.
        key_id: names the key for whoever reads; stored in the clear.
    """

    key: Key
    key_id: str = ""

    def __repr__(self) -> str:
        return f"Encryption(key_id={self.key_id!r})"


class Cipher:
    """The cipher of one shard."""

    def __init__(self, key: bytes, salt: bytes) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._key, self.salt = key, salt
        self._aes = AESGCM(_derive(key, salt, b"blixt shard key", 32))
        self._invalid_tag = InvalidTag

    @property
    def check(self) -> str:
        """Eight bytes in hex by which a reader knows that its key is the right one."""
        return _derive(self._key, self.salt, b"blixt key check", 8).hex()

    def seal(self, data: Any, codec: int, section: int, block: int) -> bytes:
        """Return a block encrypted for its place: `TAG_BYTES` longer."""
        return self._aes.encrypt(_PLACE.pack(section, block), data, codec.to_bytes(4, "little"))

    def open(self, data: Any, codec: int, section: int, block: int) -> bytes:
        """Return a sealed block's content.

        Raises:
            DecryptionError: when it was not sealed with this key for this place.
        """
        try:
            return self._aes.decrypt(_PLACE.pack(section, block), data, codec.to_bytes(4, "little"))
        except self._invalid_tag:
            raise DecryptionError("its content was not sealed with this key for this place") from None


def cipher_for_writing(encryption: Encryption) -> Cipher:
    """Return the cipher of a new shard."""
    return Cipher(resolve(encryption.key, encryption.key_id), os.urandom(_SALT_BYTES))


def cipher_for_reading(key: Key | None, stored: dict[str, Any], name: str) -> Cipher:
    """Return the cipher of a shard whose footer has this `encryption` entry.

    Raises:
        DecryptionError: when there is no key, or it is not the one that the shard was written with.
        FormatError: when the entry is none.
    """
    try:
        key_id, salt, check = str(stored["key_id"]), bytes.fromhex(stored["salt"]), str(stored["check"])
    except (KeyError, TypeError, ValueError) as problem:
        raise FormatError(f"{name}: what it says of its encryption makes no sense ({problem})") from None
    if key is None:
        raise DecryptionError(f"{name} is encrypted with key {key_id!r}; pass key= to read it")
    cipher = Cipher(resolve(key, key_id), salt)
    if cipher.check != check:
        raise DecryptionError(f"{name} is encrypted with another key than the one given for {key_id!r}")
    return cipher


def resolve(key: Key, key_id: str) -> bytes:
    """Return the key's bytes.

    Raises:
        DataError: when the key is too short or no bytes at all.
    """
    found: Any = key(key_id) if callable(key) else key
    if not isinstance(found, bytes) or len(found) < _MIN_KEY_BYTES:
        raise DataError(
            f"key {key_id!r} must be at least {_MIN_KEY_BYTES} bytes, such as os.urandom(32); "
            f"got {f'{len(found)} bytes' if isinstance(found, bytes) else type(found).__name__}"
        )
    return found


def _derive(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), length, salt, info).derive(key)
