"""Bring a database to this version's schema: create it, leave it, or migrate it."""

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from blixt.cloud.db.tables import metadata
from blixt.cloud.errors import Conflict

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0001"
"""The newest migration; a test holds it against the scripts."""

_VERSION_TABLE = (
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
    "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)
MIGRATIONS = Path(__file__).parent / "migrations"


def ensure_schema(engine: sa.Engine) -> None:
    """Create a fresh schema and stamp it, or run the migrations an older database lacks.

    Creating directly spares a first start the import of Alembic; a test proves both ways equal.

    Raises:
        Conflict: When the database was written by a newer blixt.
    """
    with engine.connect().execution_options(blixt_write=True) as connection, connection.begin():
        names = sa.inspect(connection).get_table_names()
        if not names:
            metadata.create_all(connection)
            connection.exec_driver_sql(_VERSION_TABLE)
            connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{HEAD}')")
            return
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    if found != HEAD:
        _upgrade(engine, found)


def _upgrade(engine: sa.Engine, found: str | None) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = alembic_config(engine)
    try:
        if found is not None:
            ScriptDirectory.from_config(config).get_revision(found)
    except CommandError as error:
        raise Conflict(
            f"The database is at schema {found!r}, which this blixt does not know.",
            "It was written by a newer blixt: upgrade this one, or choose another data folder.",
        ) from error
    command.upgrade(config, "head")


def alembic_config(engine: sa.Engine) -> "Config":
    """Return an Alembic configuration for the packaged migrations on `engine`."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["engine"] = engine
    return config
