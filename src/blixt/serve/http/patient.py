"""Slow bodies where uvicorn's own protocol reads them: h11, or an httptools that the hot lane does not fit.

`hot_watch` sees to slow clients on the connections that it watches, in both lanes. Here only ASGI is left:
the time that the app waits for a body's next piece is the client's.
"""

import asyncio
from typing import TYPE_CHECKING

from blixt.serve.http.exchange import JSON, Event, Receive, Scope, Send

if TYPE_CHECKING:
    from blixt.serve.http.hot_broken import App
    from blixt.serve.http.hot_patience import Patience, Verdict


class PatientApp:
    """ASGI: an app whose clients must send their bodies in time; who does not gets 408.

    Args:
        app: The app.
        patience: How long a body may take.
    """

    def __init__(self, app: "App", patience: "Patience") -> None:
        self._app = app
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the lifespan."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(self._patience, receive, send)
        await self._app(scope, body.receive, body.send)


class _Body:
    """A request's body, with a watch beside it."""

    def __init__(self, patience: "Patience", receive: Receive, send: Send) -> None:
        self._patience = patience
        self._receive = receive
        self._send = send
        self._waited_s = 0.0
        self._size = 0
        self._is_whole = self._is_refused = self._has_begun = False

    async def receive(self) -> Event:
        """ASGI: the next piece; that of a client that was too slow is that it has left."""
        if self._is_whole:
            return await self._receive()
        if self._is_refused:
            return {"type": "http.disconnect"}
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._patience.body_s):
                event = await self._receive()
        except TimeoutError:
            return await self._refuse(self._patience.body_verdict)
        self._waited_s += loop.time() - began
        self._size += len(event.get("body", b""))
        self._is_whole = not event.get("more_body", False)
        verdict = None if self._is_whole else self._patience.of_body(0.0, self._waited_s, self._size)
        return event if verdict is None else await self._refuse(verdict)

    async def send(self, event: Event) -> None:
        """ASGI: what the app says, unless the client has had its last word."""
        self._has_begun = True
        if not self._is_refused:
            await self._send(event)

    async def _refuse(self, verdict: "Verdict") -> Event:
        if not self._has_begun:
            length = (b"content-length", b"%d" % len(verdict.body))
            headers = [JSON, length, (b"connection", b"close")]
            await self._send({"type": "http.response.start", "status": verdict.status, "headers": headers})
            await self._send({"type": "http.response.body", "body": verdict.body})
        self._is_refused = True
        return {"type": "http.disconnect"}
