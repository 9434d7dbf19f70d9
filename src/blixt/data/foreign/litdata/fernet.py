"""Fernet, as LitData derives its key from a password."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blixt.data.errors import FormatError
from blixt.data.foreign.optional import need

Decrypt = Callable[[bytes], bytes]
_ITERATIONS = 480_000
_KEY_BYTES = 32


def fernet(key_file: str | Path, password: str) -> Decrypt:
    """Return the function that decrypts what LitData's `FernetEncryption(password)` encrypted.

    Args:
        key_file: the file that its `save` wrote: JSON with the salt.
        password: the password it was made with.

    Raises:
        DataError: when cryptography is not installed.
        FormatError: when the file is not such a one.
    """
    try:
        salt = base64.urlsafe_b64decode(json.loads(Path(key_file).read_bytes())["salt"])
    except (ValueError, KeyError, TypeError):
        raise FormatError(f"{key_file} is not a key file of LitData's FernetEncryption") from None
    return fernet_of(derive_key(password, salt)).decrypt


def derive_key(password: str, salt: bytes) -> bytes:
    """Return the 32 bytes of key for a password and a salt.

    Raises:
        DataError: when cryptography is not installed.
    """
    hashes = need("cryptography.hazmat.primitives.hashes", "data")
    pbkdf2 = need("cryptography.hazmat.primitives.kdf.pbkdf2", "data")
    return pbkdf2.PBKDF2HMAC(hashes.SHA256(), _KEY_BYTES, salt, _ITERATIONS).derive(password.encode())


def fernet_of(key: bytes) -> Any:
    """Return cryptography's Fernet object for a key."""
    return need("cryptography.fernet", "data").Fernet(base64.urlsafe_b64encode(key))
