"""Who may use the server: named keys that can be changed while it runs, or a callable of the user's."""

import hashlib
import hmac
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

from blixt.serve.errors import ConfigError

Headers = Iterable[tuple[bytes, bytes]]
Keys = str | Sequence[str] | Mapping[str, str] | None
Authenticate = Callable[[str], bool | Awaitable[bool]]
MISSING = "The API key is missing or wrong."
LOOK_EVERY_S = 1.0
logger = logging.getLogger("blixt.serve")


class KeyRing:
    """The keys that open the server, sent as `Authorization: Bearer KEY` or `X-API-Key: KEY`.

    A file has one key a line, `key` or `name: key`, with `#` comments; it is read again when it changes, so
    keys are rotated without a restart. A file that cannot be read leaves the last keys in force.

    Args:
        keys: One key, several, or keys by name; None for none.
        file: A file of keys, in place of or besides the others.

    Raises:
        ConfigError: A key is empty, or the file cannot be read at the start.

    Example:
        >>> KeyRing({"ada": "s3cret"}).name_of([(b"x-api-key", b"s3cret")])
        'ada'
    """

    def __init__(self, keys: Keys = None, file: str | os.PathLike[str] | None = None) -> None:
        self._fixed = _digests(_named(keys))
        self._file = Path(file) if file is not None else None
        self._names = dict(self._fixed)
        self._seen: object = None
        self._look_at = 0.0
        if self._file is not None:
            try:
                self._seen = _stamp(self._file)
                self._load(self._file)
            except OSError as error:
                raise ConfigError(f"The file of API keys cannot be read: {error}.") from None
            self._look_at = time.monotonic() + LOOK_EVERY_S

    @property
    def is_open(self) -> bool:
        """Whether no key is asked for."""
        return not self._fixed and self._file is None

    def authorized(self, headers: Headers) -> bool:
        """Whether headers carry a key of the ring; always, for an open ring."""
        return self.is_open or self.name_of(headers) is not None

    def holds(self, headers: Headers) -> bool:
        """Whether headers carry a key of the ring; never, for an open ring."""
        return self.name_of(headers) is not None

    def name_of(self, headers: Headers) -> str | None:
        """The name of the key that headers carry, or None."""
        if self._file is not None and time.monotonic() > self._look_at:
            self._refresh(self._file)
        for key in sent_keys(headers):
            name = self._names.get(hashlib.sha256(key).digest())
            if name is not None:
                return name
        return None

    def _refresh(self, file: Path) -> None:
        self._look_at = time.monotonic() + LOOK_EVERY_S
        try:
            seen = _stamp(file)
            if seen != self._seen:
                self._load(file)
                self._seen = seen
                logger.info("read %d API keys from %s", len(self._names), file)
        except (OSError, ConfigError) as error:
            logger.warning("keeping the last API keys: %s", error)

    def _load(self, file: Path) -> None:
        lines = [line.strip() for line in file.read_text().splitlines()]
        named: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            if line and not line.startswith("#"):
                name, colon, key = line.partition(":")
                named[name.strip() if colon else f"line {number}"] = key.strip() if colon else line
        if not named:
            raise ConfigError(f"{file} holds no API key; write one a line, or leave the file out.")
        self._names = {**self._fixed, **_digests(named)}


def sent_keys(headers: Headers) -> list[bytes]:
    """The keys or tokens that a request's headers carry."""
    found: list[bytes] = []
    for name, value in headers:
        if name == b"x-api-key":
            found.append(value)
        elif name == b"authorization" and value[:7].lower() == b"bearer ":
            found.append(value[7:].strip())
    return found


def same(left: bytes, right: bytes) -> bool:
    """Whether two secrets are equal, in a time that does not tell."""
    return hmac.compare_digest(left, right)


def _named(keys: Keys) -> dict[str, str]:
    if keys is None:
        return {}
    if isinstance(keys, Mapping):
        return dict(keys)
    listed = [keys] if isinstance(keys, str) else list(keys)
    return {f"key {number}": key for number, key in enumerate(listed, 1)}


def _digests(named: Mapping[str, str]) -> dict[bytes, str]:
    for name, key in named.items():
        if not key:
            raise ConfigError(
                f"api_key is empty ({name}): leave it out for an open server, or set a real key."
            )
    return {hashlib.sha256(key.encode()).digest(): name for name, key in named.items()}


def _stamp(file: Path) -> tuple[int, int, int]:
    state = file.stat()
    return state.st_mtime_ns, state.st_size, state.st_ino
