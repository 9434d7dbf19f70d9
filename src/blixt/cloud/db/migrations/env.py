"""Alembic's entry: runs the migrations on the engine the server hands over."""

from alembic import context

from blixt.cloud.db.tables import metadata

engine = context.config.attributes["engine"]

with engine.connect().execution_options(blixt_write=True) as connection:
    # Batch mode: SQLite changes a table by copying it.
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
