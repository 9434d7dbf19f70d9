"""Around every request: security headers on the answer, a bound on JSON bodies."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blixt.cloud.api.errors import error_response
from blixt.cloud.errors import TooLarge

MAX_JSON_BYTES = 16 * 1024 * 1024

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
        "font-src 'self' data:; connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; "
        "frame-ancestors 'none'; form-action 'self'"
    ),
}


class _BodyTooLarge(Exception):
    """A JSON body went over the bound."""


class Shield:
    """ASGI middleware. Raw uploads (models, blobs, files) are streamed and not bounded here.

    Args:
        app: The application inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        headers = Headers(scope=scope)
        if "json" not in headers.get("content-type", ""):
            await self._app(scope, receive, answer.send)
            return
        body = _BoundedBody(receive)
        try:
            if int(_digits(headers.get("content-length", "0"))) > MAX_JSON_BYTES:
                raise body.too_large()
            await self._app(scope, body.receive, lambda message: body.guard(answer, message))
        except _BodyTooLarge:
            pass
        if body.is_too_large and not answer.started:
            error = TooLarge(
                f"A JSON body may have {MAX_JSON_BYTES // 1024**2} MiB at most.", "Send less at once."
            )
            await error_response(error)(scope, receive, answer.send)


class _Answer:
    """Sends the answer with the security headers."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


class _BoundedBody:
    """Counts a body as it is read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._seen = 0
        self.is_too_large = False

    def too_large(self) -> _BodyTooLarge:
        self.is_too_large = True
        return _BodyTooLarge()

    async def receive(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > MAX_JSON_BYTES:
            raise self.too_large()
        return message

    async def guard(self, answer: _Answer, message: Message) -> None:
        # The framework turns any error while reading a body into its own 400; ours says what was wrong.
        if not self.is_too_large or answer.started:
            await answer.send(message)


def _digits(text: str) -> str:
    return text if text.isascii() and text.isdigit() and len(text) < 20 else "0"
