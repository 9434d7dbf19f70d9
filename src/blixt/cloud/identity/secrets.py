"""Secrets: values encrypted at rest with AES-GCM, named like any other object."""

import base64
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from blixt.cloud.db import Database, Session
from blixt.cloud.db.tables import secrets
from blixt.cloud.errors import CloudError, Invalid, NotFound
from blixt.cloud.identity.audit import append as audit_append

if TYPE_CHECKING:
    from blixt.cloud.objects import Object, Store

MAX_VALUE_BYTES = 65_536


class KeyFileError(CloudError):
    """The file of keys is missing, unreadable or not what it should be."""

    status, code = 500, "key_file"


class Secrets:
    """Stores and reads secret values.

    The key file holds `{"current": id, "keys": {id: base64}}`, mode 0600. To rotate, add a key and make it
    current: new values use it, old ones stay readable by the id stored with them.

    Args:
        db: The database.
        key_file: File of keys, made at the first use.
        store: The object store that holds the secrets' names.
        clock: Returns unix seconds.
    """

    def __init__(
        self, db: Database, key_file: Path, store: "Store", clock: Callable[[], float] = time.time
    ) -> None:
        self._db = db
        self._key_file = key_file
        self._store = store
        self._clock = clock

    def put(self, teamspace: str, name: str, value: str, *, owner: str, actor: str) -> "Object":
        """Create a secret or replace its value.

        Raises:
            Invalid: When the value is empty, too large or has a NUL character.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        data = _checked(value)
        nonce = os.urandom(12)
        with self._db.write() as s:
            # Inside the transaction, so that two first secrets cannot make two key files.
            key_id, key = self._current_key()
            item = self._store.find("secret", teamspace, name, session=s)
            if item is None:
                item = self._store.create("secret", teamspace, name, {}, owner=owner, actor=actor, session=s)
            else:
                audit_append(s, actor, "update", "secret", teamspace, name, detail={"uid": item.uid})
            # Bound to the object, so that a value cannot be moved to another name in the database.
            sealed = AESGCM(key).encrypt(nonce, data, item.uid.encode())
            row = {"key_id": key_id, "nonce": nonce, "ciphertext": sealed, "updated_at": self._clock()}
            changed = s.execute(secrets.update().where(secrets.c.object_uid == item.uid).values(**row))
            if changed.rowcount == 0:
                s.execute(secrets.insert().values(object_uid=item.uid, **row))
        return item

    def get(self, teamspace: str, name: str, *, actor: str, session: Session | None = None) -> str:
        """Return a secret's value; the audit log records who read it.

        Raises:
            NotFound: When there is no such secret.
            KeyFileError: When the key it was encrypted with is missing or wrong.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        with self._db.joined(session) as s:
            item = self._store.get("secret", teamspace, name, session=s)
            row = s.execute(sa.select(secrets).where(secrets.c.object_uid == item.uid)).mappings().first()
            if row is None:
                raise NotFound(f"The secret {name!r} in {teamspace!r} has no value yet.", "Put one.")
            key = self._keys()[1].get(row["key_id"])
            if key is None:
                raise KeyFileError(
                    f"The key {row['key_id']!r} that encrypted secret {name!r} is not in {self._key_file}.",
                    "Restore the key file from your backup.",
                )
            try:
                value = AESGCM(key).decrypt(row["nonce"], row["ciphertext"], item.uid.encode())
            except InvalidTag as error:
                raise KeyFileError(
                    f"Secret {name!r} does not decrypt: its row or the key file was changed.",
                    "Put the secret again, or restore the key file from your backup.",
                ) from error
            audit_append(s, actor, "reveal", "secret", teamspace, name, detail={"uid": item.uid})
        return value.decode()

    def list(self, teamspace: str) -> Sequence[str]:
        """Return the names of a teamspace's secrets; never values."""
        return [item.name for item in self._store.list("secret", teamspace)]

    def _current_key(self) -> tuple[str, bytes]:
        current, keys = self._keys()
        return current, keys[current]

    def _keys(self) -> tuple[str, dict[str, bytes]]:
        if not self._key_file.exists():
            self._make_key_file()
        try:
            data = json.loads(self._key_file.read_text())
            keys = {str(name): base64.b64decode(text) for name, text in data["keys"].items()}
            current = str(data["current"])
            if current not in keys or any(len(key) != 32 for key in keys.values()):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise KeyFileError(
                f"The key file {self._key_file} cannot be read or is damaged.",
                "Restore it from your backup; without it the stored secrets cannot be read.",
            ) from error
        return current, keys

    def _make_key_file(self) -> None:
        with self._db.read() as s:
            if s.execute(sa.select(secrets.c.object_uid)).first() is not None:
                raise KeyFileError(
                    f"The key file {self._key_file} is missing, but secrets were encrypted with it.",
                    "Restore it from your backup, or delete the secrets and put them again.",
                )
        text = json.dumps({"current": "k1", "keys": {"k1": base64.b64encode(os.urandom(32)).decode()}})
        write_private(self._key_file, text)


def write_private(path: Path, text: str) -> None:
    """Write a file only this user can read, all of it or nothing."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)


def _checked(value: str) -> bytes:
    data = value.encode()
    if not data or len(data) > MAX_VALUE_BYTES or b"\0" in data:
        raise Invalid(
            "value: a secret is 1 to 65536 bytes of text without NUL characters.", "Shorten or encode it."
        )
    return data
