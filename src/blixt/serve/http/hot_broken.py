"""Bodies that break: what follows the headers is no HTTP, or does not follow at all.

The app that answers in the cold lane may not need the body: a wrong key, method or path is refused without
it. Whether its refusal comes before or after the news that the body is broken depends on how the kernel hands
over the bytes, so it must not matter: such a refusal stands, alone, and the connection ends without another
word. An app that asks for what cannot come learns that its client is lost, and the client what is wrong.
"""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from blixt.serve.http.exchange import Event, Receive, Scope, Send

App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


def heard(app: App, is_vain: Callable[[], bool]) -> App:
    """An app whose questions for more of the body are heard before they are passed on.

    Args:
        app: Any ASGI app.
        is_vain: Called with each question; says whether nothing can come any more.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def ask() -> Event:
            return {"type": "http.disconnect"} if is_vain() else await receive()

        await app(scope, ask, send)

    return answer
