"""What all tables share: names of constraints, and columns that need a value unless told otherwise."""

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def col(name: str, type_: Any, *args: Any, **options: Any) -> sa.Column[Any]:
    """A column that must have a value unless it says otherwise."""
    options.setdefault("nullable", False)
    return sa.Column(name, type_, *args, **options)


def row_id(name: str = "id") -> sa.Column[Any]:
    """A row number the database counts up."""
    # SQLite only counts by itself on a plain INTEGER key.
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True)


Key = sa.String(64)
Name = sa.String(128)
Json = sa.JSON(none_as_null=True)
