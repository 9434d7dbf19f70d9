import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from blixt.cloud.db import Database, tables
from blixt.cloud.db.database import make_engine
from blixt.cloud.db.schema import HEAD, alembic_config
from blixt.cloud.errors import Conflict, StorageFull


def _schema(file: Path) -> dict[str, set[str]]:
    """Each table and index with its parts; SQLite keeps the order of constraints, which means nothing."""
    with sqlite3.connect(file) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {name: {part.strip(" ,") for part in sql.split("\n")} for name, sql in rows}


def test_a_fresh_database_has_the_schema_of_a_migrated_one(tmp_path: Path) -> None:
    Database(f"sqlite:///{tmp_path}/fresh.db").close()
    engine = make_engine(f"sqlite:///{tmp_path}/migrated.db")
    command.upgrade(alembic_config(engine), "head")
    engine.dispose()
    fresh, migrated = _schema(tmp_path / "fresh.db"), _schema(tmp_path / "migrated.db")
    fresh.pop("alembic_version")
    migrated.pop("alembic_version")
    assert fresh == migrated


def test_the_stamp_of_a_fresh_database_is_the_newest_migration(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path}/x.db")
    assert ScriptDirectory.from_config(alembic_config(engine)).get_current_head() == HEAD


def test_an_older_database_is_migrated_at_start(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    engine = make_engine(url)
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    engine.dispose()
    db = Database(url)
    with db.read() as s:
        assert s.scalar(sa.text("SELECT version_num FROM alembic_version")) == HEAD
        assert s.scalar(sa.select(sa.func.count()).select_from(tables.objects)) == 0


def test_a_database_of_a_newer_blixt_is_refused_with_a_sentence(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    db = Database(url)
    with db.write() as s:
        s.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    db.close()
    with pytest.raises(Conflict, match="9999"):
        Database(url)


def test_the_database_file_is_for_its_user_only(tmp_path: Path) -> None:
    Database(f"sqlite:///{tmp_path}/x.db")
    assert (tmp_path / "x.db").stat().st_mode & 0o777 == 0o600


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/x.db")

    def fail_halfway() -> None:
        with db.write() as s:
            s.execute(tables.users.insert().values(name="a", is_admin=False, created_at=0))
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail_halfway()
    with db.write() as s:
        assert s.scalar(sa.select(sa.func.count()).select_from(tables.users)) == 0


def test_a_nested_write_in_one_thread_is_refused_instead_of_hanging(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/x.db")
    with db.write(), pytest.raises(RuntimeError, match="session="):
        db.write().__enter__()


def test_a_reader_keeps_its_snapshot_while_another_thread_writes(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/x.db")
    count = sa.select(sa.func.count()).select_from(tables.users)

    def write() -> None:
        with db.write() as s:
            s.execute(tables.users.insert().values(name="a", is_admin=False, created_at=0))

    with db.read() as s:
        assert s.scalar(count) == 0
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        assert s.scalar(count) == 0
    with db.read() as s:
        assert s.scalar(count) == 1


def test_callbacks_run_after_the_commit_and_not_after_a_rollback(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/x.db")
    seen: list[int] = []

    def look() -> None:
        with db.read() as s:
            seen.append(s.scalar(sa.select(sa.func.count()).select_from(tables.users)) or 0)

    with db.write() as s:
        db.after_commit(look)
        s.execute(tables.users.insert().values(name="a", is_admin=False, created_at=0))
        assert seen == []

    def fail() -> None:
        with db.write():
            db.after_commit(look)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert seen == [1]


def test_a_full_disk_refuses_a_write_whole_and_the_next_one_works(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/x.db")

    def limit(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")

    def add(name: str, size: int) -> None:
        with db.write() as s:
            s.execute(tables.users.insert().values(name=name, is_admin=False, created_at=0))
            row = {"name": name + "x" * size, "is_admin": False, "created_at": 0}
            s.execute(tables.users.insert().values(**row))

    sa.event.listen(db.engine, "checkout", limit)
    with pytest.raises(StorageFull, match="disk"):
        add("big", 1_000_000)
    sa.event.remove(db.engine, "checkout", limit)
    add("small", 1)
    with db.read() as s:
        assert sorted(s.scalars(sa.select(tables.users.c.name))) == ["small", "smallx"]


def test_the_schema_compiles_for_postgresql() -> None:
    dialect = postgresql.dialect()
    for table in tables.metadata.sorted_tables:
        text = str(CreateTable(table).compile(dialect=dialect))
        assert table.name in text
        for index in table.indexes:
            CreateIndex(index).compile(dialect=dialect)
            assert len(str(index.name)) < 63
