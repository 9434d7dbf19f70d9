"""LitData's encryption: its datasets are read with it, and its key encrypts blocks (AES-256-GCM) of ours."""

import base64
import json
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal

from blixt.compat.litdata.core.refuse import UnsupportedArgument
from blixt.data.foreign.litdata.fernet import derive_key, fernet_of

Level = Literal["sample", "chunk"]


class Encryption(ABC):
    """What decrypts LitData's datasets."""

    @abstractmethod
    def decrypt(self, data: bytes) -> bytes:
        """Return the plain bytes."""


class FernetEncryption(Encryption):
    """A password.

    Args:
        password: the password.
        level: what is encrypted as one; kept for LitData's files, ours encrypt block by block.

    Raises:
        ValueError: for another level.
    """

    algorithm = "fernet"

    def __init__(self, password: str, level: Level = "sample") -> None:
        if level not in ("sample", "chunk"):
            raise ValueError("The provided `level` should be either `sample` or `chunk`")
        self.password, self.level = password, level
        self._use(os.urandom(16))

    def _use(self, salt: bytes) -> None:
        self.salt = salt
        self.key = derive_key(self.password, salt)
        self.fernet: Any = fernet_of(self.key)

    def encrypt(self, data: bytes) -> bytes:
        """Return encrypted bytes."""
        return self.fernet.encrypt(data)

    def decrypt(self, data: bytes) -> bytes:
        """Return the plain bytes."""
        return self.fernet.decrypt(data)

    def state_dict(self) -> dict[str, str]:
        """Return what an index says of it."""
        return {"algorithm": self.algorithm, "level": self.level}

    def save(self, file_path: str | Path) -> None:
        """Write what, with the password, makes the same key again."""
        salt = base64.urlsafe_b64encode(self.salt).decode()
        Path(file_path).write_text(json.dumps({**self.state_dict(), "salt": salt}))

    @classmethod
    def load(cls, file_path: str | Path, password: str) -> "FernetEncryption":
        """Make it from what `save` wrote."""
        state = json.loads(Path(file_path).read_text())
        made = cls(password, state["level"])
        made.__setstate__({**state, "password": password, "salt": base64.urlsafe_b64decode(state["salt"])})
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Travel to other processes without the objects of the library."""
        return {"password": self.password, "level": self.level, "salt": self.salt}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.password, self.level = state["password"], state["level"]
        self._use(state["salt"])


class RSAEncryption(Encryption):
    """RSA of every sample: not supported."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise UnsupportedArgument(
            "RSAEncryption is not supported by blixt.compat.litdata; use FernetEncryption, or blixt.data's "
            "encrypt=Encryption(key) with a key that you keep encrypted by RSA"
        )

    def decrypt(self, data: bytes) -> bytes:
        """Not reached: there is no instance."""
        raise AssertionError(data)
