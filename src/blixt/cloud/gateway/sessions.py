"""How a browser gets into a Studio's origin: a one-time ticket becomes that origin's own session.

The cookie holds a random value known only here, never the user's token, so what runs in the Studio could
learn nothing from it even if it saw it. Sessions live in memory: after a restart one opens the Studio again.
"""

import hashlib
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass

SESSION_COOKIE = b"blixt_studio"
LOGIN_PATH = b"/_blixt/login"


@dataclass(frozen=True, slots=True)
class Session:
    """Who is in which Studio app, until when (monotonic seconds)."""

    principal: object
    uid: str
    app: str
    path: str
    until: float


class Sessions:
    """Tickets and sessions, both bounded in number and time."""

    def __init__(self, ticket_s: float, session_s: float, count: int) -> None:
        self._ticket_s = ticket_s
        self.session_s = session_s
        self._count = count
        self._tickets: OrderedDict[bytes, Session] = OrderedDict()
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def issue_ticket(self, principal: object, uid: str, app: str, path: str) -> str:
        """Make a ticket that opens `app` of Studio `uid` once."""
        ticket = secrets.token_urlsafe(32)
        until = time.monotonic() + self._ticket_s
        self._put(self._tickets, ticket, Session(principal, uid, app, path, until))
        return ticket

    def redeem(self, ticket: str, uid: str, app: str) -> tuple[str, Session] | None:
        """Turn a ticket into a session: its cookie value and the session; None when it is not valid here."""
        granted = self._tickets.pop(_digest(ticket), None)
        now = time.monotonic()
        if granted is None or granted.until < now or (granted.uid, granted.app) != (uid, app):
            return None
        value = secrets.token_urlsafe(32)
        session = Session(granted.principal, uid, app, granted.path, now + self.session_s)
        self._put(self._sessions, value, session)
        return value, session

    def find(self, value: str, uid: str, app: str) -> Session | None:
        """The session of a cookie, if it is for this very origin."""
        session = self._sessions.get(_digest(value))
        if session is None or session.until < time.monotonic() or (session.uid, session.app) != (uid, app):
            return None
        return session

    def forget_studio(self, uid: str) -> None:
        """End all sessions and tickets of a Studio that was deleted."""
        for store in (self._tickets, self._sessions):
            for key in [key for key, session in store.items() if session.uid == uid]:
                del store[key]

    def _put(self, store: OrderedDict[bytes, Session], value: str, session: Session) -> None:
        store[_digest(value)] = session
        while len(store) > self._count:
            store.popitem(last=False)


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).digest()
