"""What was done outside the database: written down first, under a token that the same effect always gets.

After a crash a token in state "begun" says: look the effect up before you repeat it.
"""

import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from blixt.cloud.db import Database, Session, effects


class Journal:
    """The journal of effects."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._clock = clock

    def begin(self, token: str, uid: str, action: str, *, session: Session) -> None:
        """Write down what is about to be done; beginning it again changes nothing."""
        if session.execute(sa.select(effects.c.token).where(effects.c.token == token)).first() is None:
            row = {"token": token, "uid": uid, "action": action, "state": "begun", "begun_at": self._clock()}
            session.execute(effects.insert().values(**row))

    def finish(self, token: str, *, session: Session, failed: bool = False, result: Any = None) -> None:
        """Write down how it ended."""
        values = {"state": "failed" if failed else "done", "result": result, "done_at": self._clock()}
        session.execute(effects.update().where(effects.c.token == token).values(**values))

    def state(self, token: str, *, session: Session | None = None) -> str | None:
        """begun, done, failed, or None when it was never begun."""
        with self._db.viewed(session) as s:
            found = s.scalar(sa.select(effects.c.state).where(effects.c.token == token))
        return None if found is None else str(found)

    def unfinished(self, action: str) -> list[str]:
        """The tokens of effects that began and never ended, oldest first."""
        query = sa.select(effects.c.token).where(effects.c.state == "begun", effects.c.action == action)
        with self._db.read() as s:
            return list(s.scalars(query.order_by(effects.c.begun_at)))

    def forget(self, uid: str, *, session: Session) -> None:
        """Drop the journal of an object that is gone."""
        session.execute(effects.delete().where(effects.c.uid == uid, effects.c.state != "begun"))
