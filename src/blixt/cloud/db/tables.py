"""Every table of the cloud, as SQLAlchemy Core tables (portable between SQLite and PostgreSQL).

Times are unix seconds (float), except in money, where they are integer microseconds (`*_us`) so that no
amount is ever computed in floating point. Money is integer micro-credits (`*_uc`).
"""

import sqlalchemy as sa

from blixt.cloud.db.columns import Json, Key, Name, col, metadata, row_id

# -- people ------------------------------------------------------------------------------------------------

users = sa.Table(
    "users",
    metadata,
    col("name", Name, primary_key=True),
    col("is_admin", sa.Boolean),
    col("created_at", sa.Float),
)

teamspaces = sa.Table(
    "teamspaces",
    metadata,
    col("name", Name, primary_key=True),
    col("created_by", Name),
    col("created_at", sa.Float),
)

members = sa.Table(
    "members",
    metadata,
    col("teamspace", Name, sa.ForeignKey("teamspaces.name", ondelete="CASCADE"), primary_key=True),
    col("user", Name, sa.ForeignKey("users.name", ondelete="CASCADE"), primary_key=True, index=True),
    col("role", sa.String(16)),
    col("created_at", sa.Float),
)

tokens = sa.Table(
    "tokens",
    metadata,
    col("id", Key, primary_key=True),
    col("hash", Key, unique=True),
    col("kind", sa.String(16)),  # token, session, ticket, workload
    col("user", Name, sa.ForeignKey("users.name", ondelete="CASCADE"), index=True),
    col("label", sa.String(256)),
    col("parent", Key, nullable=True, index=True),  # the token a session or ticket was made from
    col("teamspace", Name, nullable=True),  # when set, the token reaches only this teamspace
    col("role", sa.String(16), nullable=True),  # when set, a ceiling on the user's own role
    col("scope", sa.String(256), nullable=True),  # what the token is for, such as job/train
    col("created_at", sa.Float),
    col("expires_at", sa.Float, nullable=True),
    col("revoked_at", sa.Float, nullable=True),
)

audit = sa.Table(
    "audit",
    metadata,
    row_id("seq"),
    col("at", sa.Float),
    col("actor", sa.String(256)),
    col("action", sa.String(64)),
    col("kind", sa.String(32)),
    col("teamspace", Name),
    col("name", sa.String(256)),
    col("outcome", sa.String(16)),
    col("detail", sa.Text),  # JSON exactly as it was hashed
    col("previous_hash", Key),
    col("hash", Key),
    sa.Index("ix_audit_teamspace_seq", "teamspace", "seq"),
    sqlite_autoincrement=True,
)

audit_head = sa.Table(
    "audit_head",
    metadata,
    col("id", sa.Integer, primary_key=True),
    col("seq", sa.BigInteger),
    col("hash", Key),
)

# -- objects -----------------------------------------------------------------------------------------------

objects = sa.Table(
    "objects",
    metadata,
    col("uid", Key, primary_key=True),
    col("kind", sa.String(32)),
    col("teamspace", Name, sa.ForeignKey("teamspaces.name")),
    col("name", Name),
    col("revision", sa.BigInteger),
    col("labels", sa.JSON),
    col("owner", Name),
    col("spec", sa.JSON),
    col("status", sa.JSON),
    col("finalizers", sa.JSON),
    col("deleting", sa.Boolean),
    col("created_at", sa.Float),
    col("updated_at", sa.Float),
    sa.UniqueConstraint("teamspace", "kind", "name"),
    sa.Index("ix_objects_kind", "kind"),
)

changes = sa.Table(
    "changes",
    metadata,
    row_id("seq"),
    col("type", sa.String(16)),
    col("uid", Key),
    col("kind", sa.String(32)),
    col("teamspace", Name),
    col("object", sa.JSON),
    col("at", sa.Float),
    # Sequence numbers are never reused, even after old changes were pruned.
    sqlite_autoincrement=True,
)

secrets = sa.Table(
    "secrets",
    metadata,
    col("object_uid", Key, sa.ForeignKey("objects.uid", ondelete="CASCADE"), primary_key=True),
    col("key_id", sa.String(16)),
    col("nonce", sa.LargeBinary),
    col("ciphertext", sa.LargeBinary),
    col("updated_at", sa.Float),
)

# -- work --------------------------------------------------------------------------------------------------

work_items = sa.Table(
    "work_items",
    metadata,
    col("uid", Key, primary_key=True),  # the object to reconcile
    col("due_at", sa.Float, index=True),
    col("generation", sa.BigInteger, default=0, server_default="0"),
    col("lease_owner", Name, nullable=True),
    col("lease_until", sa.Float, default=0.0, server_default="0"),
    col("fence", sa.BigInteger, default=0, server_default="0"),  # grows with each lease
    col("failures", sa.Integer, default=0, server_default="0"),
)

effects = sa.Table(
    "effects",
    metadata,
    col("token", sa.String(256), primary_key=True),  # deterministic: the same effect has the same token
    col("uid", Key, index=True),
    col("action", sa.String(64)),
    col("state", sa.String(16)),  # begun, done, failed
    col("result", Json, nullable=True),
    col("begun_at", sa.Float),
    col("done_at", sa.Float, nullable=True),
)

allocations = sa.Table(
    "allocations",
    metadata,
    col("id", sa.String(256), primary_key=True),  # the effect token that made it
    col("uid", Key, index=True),  # the object it serves
    col("kind", sa.String(32)),
    col("teamspace", Name),
    col("name", Name),
    col("part", sa.String(64), default="0", server_default="0"),  # rank or replica
    col("attempt", sa.Integer, default=0, server_default="0"),
    col("engine", sa.String(32)),
    col("machine", Name),
    col("ref", Json, nullable=True),  # how the engine finds it again
    col("state", sa.String(16), index=True),  # requested, live, ended
    col("token_id", Key, nullable=True),  # the workload's token, revoked when it ends
    col("created_at", sa.Float),
    col("live_at", sa.Float, nullable=True),
    col("ended_at", sa.Float, nullable=True),
    col("reason", sa.Text, default="", server_default=""),
)

# -- money -------------------------------------------------------------------------------------------------

usage_segments = sa.Table(
    "usage_segments",
    metadata,
    col("allocation_id", sa.String(256), primary_key=True),
    col("object_uid", Key, index=True),
    col("kind", sa.String(32)),
    col("teamspace", Name),
    col("name", Name),
    col("owner", Name),
    col("machine", Name),
    col("price_uc_per_hour", sa.BigInteger),
    col("state", sa.String(16)),  # held -> open -> closed, or held -> released
    col("hold_uc", sa.BigInteger),  # what is set aside, from the segment's start
    col("held_us", sa.BigInteger),
    col("opened_us", sa.BigInteger, nullable=True),
    col("closed_us", sa.BigInteger, nullable=True),
    col("amount_uc", sa.BigInteger, nullable=True),  # what was charged at the close
    col("unbilled_uc", sa.BigInteger, default=0, server_default="0"),  # ran longer than a budget covered
    sa.Index("ix_usage_segments_teamspace_state", "teamspace", "state"),
    sa.Index("ix_usage_segments_state", "state"),
)

ledger_accounts = sa.Table(
    "ledger_accounts",
    metadata,
    col("name", sa.String(256), primary_key=True),  # teamspace:NAME, income:compute
    col("balance_uc", sa.BigInteger),
    col("created_at", sa.Float),
)

ledger_entries = sa.Table(
    "ledger_entries",
    metadata,
    row_id(),
    col("transaction", sa.String(320)),  # such as charge:ALLOCATION; posting it twice is impossible
    col("account", sa.String(256), sa.ForeignKey("ledger_accounts.name"), index=True),
    col("amount_uc", sa.BigInteger),
    col("memo", sa.Text),
    col("at", sa.Float),
    sa.UniqueConstraint("transaction", "account"),
    sqlite_autoincrement=True,
)

# -- registry ----------------------------------------------------------------------------------------------

runs = sa.Table(
    "runs",
    metadata,
    col("experiment_uid", Key, sa.ForeignKey("objects.uid", ondelete="CASCADE"), primary_key=True),
    col("id", Name, primary_key=True),
    col("name", Name),
    col("params", sa.JSON),
    col("job", Name, nullable=True),
    col("state", sa.String(16)),
    col("summary", sa.JSON),
    col("metrics_seq", sa.BigInteger),  # the last batch stored; a batch at or below it is a repeat
    col("started_at", sa.Float),
    col("updated_at", sa.Float),
    col("finished_at", sa.Float, nullable=True),
)

# One row is one batch of one metric, its points packed as little-endian arrays: thousands of points cost one
# insert, reading a curve is a few large reads, and NaN survives.
metric_chunks = sa.Table(
    "metric_chunks",
    metadata,
    col("experiment_uid", Key, primary_key=True),
    col("run_id", Name, primary_key=True),
    col("name", sa.String(256), primary_key=True),
    col("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    col("count", sa.Integer),
    col("max_step", sa.BigInteger),
    col("steps", sa.LargeBinary),  # int64
    col("times", sa.LargeBinary),  # float64
    col("values", sa.LargeBinary),  # float64
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
    col("model_uid", Key, sa.ForeignKey("objects.uid", ondelete="CASCADE"), primary_key=True),
    col("version", sa.Integer, primary_key=True, autoincrement=False),
    col("state", sa.String(16)),  # uploading, ready
    col("client_id", Name, nullable=True),  # makes a repeated creation the same version
    col("metadata", sa.JSON),
    col("metrics", sa.JSON),
    col("job", Name, nullable=True),
    col("created_by", Name),
    col("created_at", sa.Float),
    col("committed_at", sa.Float, nullable=True),
    sa.UniqueConstraint("model_uid", "client_id"),
)

model_files = sa.Table(
    "model_files",
    metadata,
    col("model_uid", Key, primary_key=True),
    col("version", sa.Integer, primary_key=True, autoincrement=False),
    col("path", sa.String(512), primary_key=True),
    col("sha256", Key, index=True),
    col("size_bytes", sa.BigInteger),
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
    col("teamspace", Name, sa.ForeignKey("teamspaces.name", ondelete="CASCADE"), primary_key=True),
    col("sha256", Key, primary_key=True),
    col("size_bytes", sa.BigInteger),
    col("created_by", Name),
    col("created_at", sa.Float),
)
