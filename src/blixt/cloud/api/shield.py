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
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        bounded = _bound(receive) if "json" in headers.get("content-type", "") else receive
        try:
            if int(_digits(headers.get("content-length", "0"))) > MAX_JSON_BYTES and bounded is not receive:
                raise _BodyTooLarge
            await self._app(scope, bounded, send_with_headers)
        except _BodyTooLarge:
            if not started:
                limit = MAX_JSON_BYTES // 1024**2
                error = TooLarge(f"A JSON body may have {limit} MiB at most.", "Send less at once.")
                await error_response(error)(scope, receive, send_with_headers)


def _bound(receive: Receive) -> Receive:
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_JSON_BYTES:
            raise _BodyTooLarge
        return message

    return bounded


def _digits(text: str) -> str:
    return text if text.isascii() and text.isdigit() else "0"
