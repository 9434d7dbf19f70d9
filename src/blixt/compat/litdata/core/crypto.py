"""LitData's encryption: its datasets are read with it, and its key encrypts blocks (AES-256-GCM) of ours."""

import base64
import json
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal

from blixt.compat.litdata.core.refuse import UnsupportedArgument
from blixt.data.crypto import Encryption as OurEncryption
from blixt.data.crypto import Key
from blixt.data.foreign.litdata.fernet import derive_key, fernet_of
from blixt.data.foreign.optional import need

Level = Literal["sample", "chunk"]


class Encryption(ABC):
    """What encrypts and decrypts; subclass it for a way of your own.

    LitData encrypts every sample (or chunk) with it. What is written here is sealed block by block with a
    random key, which only it opens.
    """

    @abstractmethod
    def decrypt(self, data: bytes) -> bytes:
        """Return the plain bytes."""

    def encrypt(self, data: bytes) -> bytes:
        """Return encrypted bytes; for one that only reads there is no need of it.

        Raises:
            UnsupportedArgument: for one that has no way to.
        """
        raise UnsupportedArgument(f"{type(self).__name__} has no method encrypt, so it only reads")

    def ours(self) -> OurEncryption:
        """Return how our writer encrypts: with a new key, which travels as its id, locked."""
        key = os.urandom(32)
        return OurEncryption(key, base64.b64encode(self.encrypt(key)).decode())

    def key_for(self, key_id: str) -> bytes:
        """Return the key that travelled as an id."""
        return self.decrypt(base64.b64decode(key_id))


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
        _check_level(level)
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
    """A pair of RSA keys, the private one locked with a password.

    It locks the key of a dataset only, so samples may have any size.

    Args:
        password: locks the private key where it is saved.
        level: what LitData's files encrypt as one.

    Raises:
        ValueError: for another level.
    """

    algorithm = "rsa"

    def __init__(self, password: str, level: Level = "sample") -> None:
        _check_level(level)
        self.password, self.level = password, level
        self.private_key: Any = _rsa().generate_private_key(public_exponent=65537, key_size=2048)
        self.public_key: Any = self.private_key.public_key()

    def encrypt(self, data: bytes) -> bytes:
        """Return encrypted bytes, of at most 190.

        Raises:
            AttributeError: without the public key.
        """
        if not self.public_key:
            raise AttributeError("Public key not found.")
        return self.public_key.encrypt(data, _oaep())

    def decrypt(self, data: bytes) -> bytes:
        """Return the plain bytes.

        Raises:
            AttributeError: without the private key.
        """
        if not self.private_key:
            raise AttributeError("Private key not found.")
        return self.private_key.decrypt(data, _oaep())

    def state_dict(self) -> dict[str, str]:
        """Return what an index says of it."""
        return {"algorithm": self.algorithm, "level": self.level}

    def save(self, file_path: str | Path) -> None:
        """Write both keys, the private one locked with the password."""
        Path(file_path).write_text(json.dumps(self.__getstate__()))

    @classmethod
    def load(cls, file_path: str | Path, password: str) -> "RSAEncryption":
        """Make it from what `save` wrote."""
        made = cls.__new__(cls)
        made.__setstate__({**json.loads(Path(file_path).read_text()), "password": password})
        return made

    def save_keys(self, private_key_path: str | Path, public_key_path: str | Path) -> None:
        """Write each key to a file of its own.

        Raises:
            AttributeError: when one is not there.
        """
        state = self.__getstate__()
        if not state["private_key"] or not state["public_key"]:
            raise AttributeError("Keys not found.")
        Path(private_key_path).write_text(state["private_key"])
        Path(public_key_path).write_text(state["public_key"])

    def load_keys(self, private_key_path: str | Path, public_key_path: str | Path, password: str) -> None:
        """Take the keys of two files in the place of those here."""
        keys = {"private_key": private_key_path, "public_key": public_key_path}
        texts = {name: Path(path).read_text() for name, path in keys.items()}
        self.__setstate__({**texts, "password": password, "level": self.level})

    def __getstate__(self) -> dict[str, Any]:
        pem = _serialization()
        lock = pem.BestAvailableEncryption(self.password.encode()) if self.password else pem.NoEncryption()
        private, public = self.private_key, self.public_key
        return {
            "private_key": private
            and private.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.TraditionalOpenSSL, lock).decode(),
            "public_key": public
            and public.public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo).decode(),
            "password": self.password,
            "level": self.level,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        pem = _serialization()
        self.password, self.level = state["password"] or "", state["level"]
        private, public = state["private_key"], state["public_key"]
        password = self.password.encode() or None
        self.private_key = pem.load_pem_private_key(private.encode(), password) if private else None
        self.public_key = pem.load_pem_public_key(public.encode()) if public else None


def encryption_of(given: Any) -> OurEncryption | None:
    """Return how our writer encrypts, for one of LitData's encryptions or one of the user's own.

    Raises:
        UnsupportedArgument: for one that only reads, or is none.
    """
    if given is None:
        return None
    if isinstance(given, FernetEncryption):
        return OurEncryption(given.key)
    if isinstance(given, Encryption):
        return given.ours()
    raise UnsupportedArgument(f"encryption={type(given).__name__} is no subclass of litdata's Encryption")


def key_of(given: Any) -> Key | None:
    """Return the key by which our reader opens what `encryption_of` sealed; None for other encryptions."""
    if isinstance(given, FernetEncryption):
        return given.key
    return given.key_for if isinstance(given, Encryption) else None


def _check_level(level: str) -> None:
    if level not in ("sample", "chunk"):
        raise ValueError("The provided `level` should be either `sample` or `chunk`")


def _rsa() -> Any:
    return need("cryptography.hazmat.primitives.asymmetric.rsa", "data")


def _serialization() -> Any:
    return need("cryptography.hazmat.primitives.serialization", "data")


def _oaep() -> Any:
    padding = need("cryptography.hazmat.primitives.asymmetric.padding", "data")
    sha256 = need("cryptography.hazmat.primitives.hashes", "data").SHA256()
    return padding.OAEP(padding.MGF1(sha256), sha256, None)
