"""Transactions on the database: any number of readers, one writer at a time."""

import json
import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from blixt.cloud.db.schema import ensure_schema
from blixt.cloud.errors import StorageFull, Unavailable

Session = sa.Connection
"""A SQLAlchemy Core connection inside one transaction."""

BUSY_TIMEOUT_S = 15
WRITE_WAIT_S = 30


class Database:
    """The cloud's database.

    SQLite runs in WAL mode with synchronous=NORMAL: a killed process loses nothing that was committed, a
    power cut may lose the last moments but never leaves half a transaction.

    Args:
        url: SQLAlchemy URL, such as `sqlite:////home/me/.blixt/blixt.db`. The schema is created or migrated.
    """

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        self._writer = threading.Lock()
        self._local = threading.local()
        ensure_schema(self.engine)

    @contextmanager
    def read(self) -> Generator[Session]:
        """Open a read transaction: one consistent snapshot."""
        with self.engine.connect() as session, session.begin():
            yield session

    @contextmanager
    def write(self) -> Generator[Session]:
        """Open the write transaction (BEGIN IMMEDIATE); commit on success, roll back on any exception.

        Threads of this process queue on a lock, which is fair and wakes at once; other processes wait by
        SQLite's busy timeout.

        Raises:
            RuntimeError: When this thread already holds a write transaction (pass `session=` instead).
            Unavailable: When the database stays locked for too long.
            StorageFull: When the disk is full; nothing was written.
        """
        if getattr(self._local, "callbacks", None) is not None:
            raise RuntimeError("This thread already holds a write transaction: pass session= to join it.")
        if not self._writer.acquire(timeout=WRITE_WAIT_S):
            raise Unavailable("The database is busy.", "Try again in a moment.")
        callbacks: dict[Callable[[], None], None] = {}
        self._local.callbacks = callbacks
        try:
            with _friendly_errors(), self.engine.connect() as connection:
                session = connection.execution_options(blixt_write=True)
                with session.begin():
                    yield session
        finally:
            self._local.callbacks = None
            self._writer.release()
        for callback in callbacks:
            callback()

    def joined(self, session: Session | None) -> AbstractContextManager[Session]:
        """Return `session` when given, else a write transaction of its own."""
        return nullcontext(session) if session is not None else self.write()

    def viewed(self, session: Session | None) -> AbstractContextManager[Session]:
        """Return `session` when given, else a read transaction of its own."""
        return nullcontext(session) if session is not None else self.read()

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, in this thread, when the current write transaction has committed."""
        callbacks = getattr(self._local, "callbacks", None)
        if callbacks is None:
            raise RuntimeError("after_commit needs an open write transaction in this thread.")
        callbacks[callback] = None

    def close(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()


def make_engine(url: str) -> sa.Engine:
    """Return an engine whose transactions begin as `Database` needs them."""
    file = sa.make_url(url).database
    if url.startswith("sqlite") and file and not Path(file).exists():
        # For this user only, whatever the folder allows; SQLite gives its side files the same mode.
        Path(file).touch(mode=0o600)
    engine = sa.create_engine(
        url,
        pool_size=16,
        max_overflow=32,
        json_serializer=_to_json,
    )
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _to_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # The driver must not open transactions by itself: `_begin_sqlite` says when and how.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_S * 1000}",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("blixt_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _friendly_errors() -> Generator[None]:
    try:
        yield
    except OperationalError as error:
        text = str(error.orig)
        if "full" in text:
            raise StorageFull("The disk under the data folder is full.", "Free some space.") from error
        if "locked" in text:
            raise Unavailable("The database is busy.", "Try again in a moment.") from error
        raise
