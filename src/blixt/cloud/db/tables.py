"""Every table of the cloud, as SQLAlchemy Core tables (portable between SQLite and PostgreSQL).

Times are unix seconds (float), except in money, where they are integer microseconds (`*_us`) so that no
amount is ever computed in floating point. Money is integer micro-credits (`*_uc`).
"""

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


def _col(name: str, type_: Any, *args: Any, **options: Any) -> sa.Column[Any]:
    """A column that must have a value unless it says otherwise."""
    options.setdefault("nullable", False)
    return sa.Column(name, type_, *args, **options)


def _row_id(name: str = "id") -> sa.Column[Any]:
    # SQLite only counts by itself on a plain INTEGER key.
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True)


Key = sa.String(64)
Name = sa.String(128)

# -- people ------------------------------------------------------------------------------------------------

users = sa.Table(
    "users",
    metadata,
    _col("name", Name, primary_key=True),
    _col("is_admin", sa.Boolean),
    _col("created_at", sa.Float),
)

teamspaces = sa.Table(
    "teamspaces",
    metadata,
    _col("name", Name, primary_key=True),
    _col("created_by", Name),
    _col("created_at", sa.Float),
)

members = sa.Table(
    "members",
    metadata,
    _col("teamspace", Name, sa.ForeignKey("teamspaces.name", ondelete="CASCADE"), primary_key=True),
    _col("user", Name, sa.ForeignKey("users.name", ondelete="CASCADE"), primary_key=True, index=True),
    _col("role", sa.String(16)),
    _col("created_at", sa.Float),
)

tokens = sa.Table(
    "tokens",
    metadata,
    _col("id", Key, primary_key=True),
    _col("hash", Key, unique=True),
    _col("kind", sa.String(16)),  # token, session, ticket, workload
    _col("user", Name, sa.ForeignKey("users.name", ondelete="CASCADE"), index=True),
    _col("label", sa.String(256)),
    _col("parent", Key, nullable=True, index=True),  # the token a session or ticket was made from
    _col("teamspace", Name, nullable=True),  # when set, the token reaches only this teamspace
    _col("role", sa.String(16), nullable=True),  # when set, a ceiling on the user's own role
    _col("scope", sa.String(256), nullable=True),  # what the token is for, such as job/train
    _col("created_at", sa.Float),
    _col("expires_at", sa.Float, nullable=True),
    _col("revoked_at", sa.Float, nullable=True),
)

audit = sa.Table(
    "audit",
    metadata,
    _row_id("seq"),
    _col("at", sa.Float),
    _col("actor", sa.String(256)),
    _col("action", sa.String(64)),
    _col("kind", sa.String(32)),
    _col("teamspace", Name),
    _col("name", sa.String(256)),
    _col("outcome", sa.String(16)),
    _col("detail", sa.Text),  # JSON exactly as it was hashed
    _col("previous_hash", Key),
    _col("hash", Key),
    sa.Index("ix_audit_teamspace_seq", "teamspace", "seq"),
    sqlite_autoincrement=True,
)

audit_head = sa.Table(
    "audit_head",
    metadata,
    _col("id", sa.Integer, primary_key=True),
    _col("seq", sa.BigInteger),
    _col("hash", Key),
)

# -- objects -----------------------------------------------------------------------------------------------

objects = sa.Table(
    "objects",
    metadata,
    _col("uid", Key, primary_key=True),
    _col("kind", sa.String(32)),
    _col("teamspace", Name, sa.ForeignKey("teamspaces.name")),
    _col("name", Name),
    _col("revision", sa.BigInteger),
    _col("labels", sa.JSON),
    _col("owner", Name),
    _col("spec", sa.JSON),
    _col("status", sa.JSON),
    _col("finalizers", sa.JSON),
    _col("deleting", sa.Boolean),
    _col("created_at", sa.Float),
    _col("updated_at", sa.Float),
    sa.UniqueConstraint("teamspace", "kind", "name"),
    sa.Index("ix_objects_kind", "kind"),
)

changes = sa.Table(
    "changes",
    metadata,
    _row_id("seq"),
    _col("type", sa.String(16)),
    _col("uid", Key),
    _col("kind", sa.String(32)),
    _col("teamspace", Name),
    _col("object", sa.JSON),
    _col("at", sa.Float),
    # Sequence numbers are never reused, even after old changes were pruned.
    sqlite_autoincrement=True,
)

secrets = sa.Table(
    "secrets",
    metadata,
    _col("object_uid", Key, sa.ForeignKey("objects.uid", ondelete="CASCADE"), primary_key=True),
    _col("key_id", sa.String(16)),
    _col("nonce", sa.LargeBinary),
    _col("ciphertext", sa.LargeBinary),
    _col("updated_at", sa.Float),
)

# -- work --------------------------------------------------------------------------------------------------

_Json = sa.JSON(none_as_null=True)

work_items = sa.Table(
    "work_items",
    metadata,
    _col("uid", Key, primary_key=True),  # the object to reconcile
    _col("due_at", sa.Float, index=True),
    _col("generation", sa.BigInteger, default=0, server_default="0"),
    _col("lease_owner", Name, nullable=True),
    _col("lease_until", sa.Float, default=0.0, server_default="0"),
    _col("fence", sa.BigInteger, default=0, server_default="0"),  # grows with each lease
    _col("failures", sa.Integer, default=0, server_default="0"),
)

effects = sa.Table(
    "effects",
    metadata,
    _col("token", sa.String(256), primary_key=True),  # deterministic: the same effect has the same token
    _col("uid", Key, index=True),
    _col("action", sa.String(64)),
    _col("state", sa.String(16)),  # begun, done, failed
    _col("result", _Json, nullable=True),
    _col("begun_at", sa.Float),
    _col("done_at", sa.Float, nullable=True),
)

allocations = sa.Table(
    "allocations",
    metadata,
    _col("id", sa.String(256), primary_key=True),  # the effect token that made it
    _col("uid", Key, index=True),  # the object it serves
    _col("kind", sa.String(32)),
    _col("teamspace", Name),
    _col("name", Name),
    _col("part", sa.String(64), default="0", server_default="0"),  # rank or replica
    _col("attempt", sa.Integer, default=0, server_default="0"),
    _col("engine", sa.String(32)),
    _col("machine", Name),
    _col("ref", _Json, nullable=True),  # how the engine finds it again
    _col("state", sa.String(16), index=True),  # requested, live, ended
    _col("token_id", Key, nullable=True),  # the workload's token, revoked when it ends
    _col("created_at", sa.Float),
    _col("live_at", sa.Float, nullable=True),
    _col("ended_at", sa.Float, nullable=True),
    _col("reason", sa.Text, default="", server_default=""),
)

# -- money -------------------------------------------------------------------------------------------------

usage_segments = sa.Table(
    "usage_segments",
    metadata,
    _col("allocation_id", sa.String(256), primary_key=True),
    _col("object_uid", Key, index=True),
    _col("kind", sa.String(32)),
    _col("teamspace", Name),
    _col("name", Name),
    _col("owner", Name),
    _col("machine", Name),
    _col("price_uc_per_hour", sa.BigInteger),
    _col("state", sa.String(16)),  # held -> open -> closed, or held -> released
    _col("hold_uc", sa.BigInteger),  # what is set aside, from the segment's start
    _col("held_us", sa.BigInteger),
    _col("opened_us", sa.BigInteger, nullable=True),
    _col("closed_us", sa.BigInteger, nullable=True),
    _col("amount_uc", sa.BigInteger, nullable=True),  # what was charged at the close
    _col("unbilled_uc", sa.BigInteger, default=0, server_default="0"),  # ran longer than a budget covered
    sa.Index("ix_usage_segments_teamspace_state", "teamspace", "state"),
    sa.Index("ix_usage_segments_state", "state"),
)

ledger_accounts = sa.Table(
    "ledger_accounts",
    metadata,
    _col("name", sa.String(256), primary_key=True),  # teamspace:NAME, income:compute
    _col("balance_uc", sa.BigInteger),
    _col("created_at", sa.Float),
)

ledger_entries = sa.Table(
    "ledger_entries",
    metadata,
    _row_id(),
    _col("transaction", sa.String(320)),  # such as charge:ALLOCATION; posting it twice is impossible
    _col("account", sa.String(256), sa.ForeignKey("ledger_accounts.name"), index=True),
    _col("amount_uc", sa.BigInteger),
    _col("memo", sa.Text),
    _col("at", sa.Float),
    sa.UniqueConstraint("transaction", "account"),
    sqlite_autoincrement=True,
)

# -- registry ----------------------------------------------------------------------------------------------

runs = sa.Table(
    "runs",
    metadata,
    _col("experiment_uid", Key, sa.ForeignKey("objects.uid", ondelete="CASCADE"), primary_key=True),
    _col("id", Name, primary_key=True),
    _col("name", Name),
    _col("params", sa.JSON),
    _col("job", Name, nullable=True),
    _col("state", sa.String(16)),
    _col("summary", sa.JSON),
    _col("metrics_seq", sa.BigInteger),  # the last batch stored; a batch at or below it is a repeat
    _col("started_at", sa.Float),
    _col("updated_at", sa.Float),
    _col("finished_at", sa.Float, nullable=True),
)

# One row is one batch of one metric, its points packed as little-endian arrays: thousands of points cost one
# insert, reading a curve is a few large reads, and NaN survives.
metric_chunks = sa.Table(
    "metric_chunks",
    metadata,
    _col("experiment_uid", Key, primary_key=True),
    _col("run_id", Name, primary_key=True),
    _col("name", sa.String(256), primary_key=True),
    _col("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    _col("count", sa.Integer),
    _col("max_step", sa.BigInteger),
    _col("steps", sa.LargeBinary),  # int64
    _col("times", sa.LargeBinary),  # float64
    _col("values", sa.LargeBinary),  # float64
    sa.ForeignKeyConstraint(
        ["experiment_uid", "run_id"],
        ["runs.experiment_uid", "runs.id"],
        ondelete="CASCADE",
        name="fk_metric_chunks_run",
    ),
)

model_versions = sa.Table(
    "model_versions",
    metadata,
    _col("model_uid", Key, sa.ForeignKey("objects.uid", ondelete="CASCADE"), primary_key=True),
    _col("version", sa.Integer, primary_key=True, autoincrement=False),
    _col("state", sa.String(16)),  # uploading, ready
    _col("client_id", Name, nullable=True),  # makes a repeated creation the same version
    _col("metadata", sa.JSON),
    _col("metrics", sa.JSON),
    _col("job", Name, nullable=True),
    _col("created_by", Name),
    _col("created_at", sa.Float),
    _col("committed_at", sa.Float, nullable=True),
    sa.UniqueConstraint("model_uid", "client_id"),
)

model_files = sa.Table(
    "model_files",
    metadata,
    _col("model_uid", Key, primary_key=True),
    _col("version", sa.Integer, primary_key=True, autoincrement=False),
    _col("path", sa.String(512), primary_key=True),
    _col("sha256", Key, index=True),
    _col("size_bytes", sa.BigInteger),
    sa.ForeignKeyConstraint(
        ["model_uid", "version"],
        ["model_versions.model_uid", "model_versions.version"],
        ondelete="CASCADE",
        name="fk_model_files_version",
    ),
)

blobs = sa.Table(
    "blobs",
    metadata,
    _col("teamspace", Name, sa.ForeignKey("teamspaces.name", ondelete="CASCADE"), primary_key=True),
    _col("sha256", Key, primary_key=True),
    _col("size_bytes", sa.BigInteger),
    _col("created_by", Name),
    _col("created_at", sa.Float),
)
