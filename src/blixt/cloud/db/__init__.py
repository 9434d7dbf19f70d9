"""The database: one engine, read and write transactions, the tables, and migrations run at start.

A session here is a SQLAlchemy Core `Connection` inside one transaction: the cloud's queries are plain
selects on the tables of `blixt.cloud.db.tables`, and Core keeps start-up lean.
"""

from blixt.cloud.db import tables
from blixt.cloud.db.database import Database, Session
from blixt.cloud.db.tables import allocations, effects, work_items

__all__ = ["Database", "Session", "allocations", "effects", "tables", "work_items"]
