"""The gateway's own answers: the JSON error shape for programs, a small page for browsers. Pure."""

import html
import json

from blixt.cloud.gateway.errors import GatewayError
from blixt.cloud.gateway.heads import RequestHead

_REASONS = {
    303: "See Other", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    408: "Request Timeout", 414: "URI Too Long", 417: "Expectation Failed", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented",
    502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}  # fmt: skip

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title} - blixt</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 34rem; margin: 15vh auto; padding: 0 1rem;
  color: #1c1c22; background: #fff }}
h1 {{ font-size: 1.3rem }} code {{ background: #8882; padding: .1em .3em; border-radius: 3px }}
@media (prefers-color-scheme: dark) {{ body {{ color: #eee; background: #17171c }} }}
</style></head>
<body><main><h1>{title}</h1><p>{message}</p><p>{hint}</p></main></body></html>
"""


def error_response(error: GatewayError, head: RequestHead | None, *, close: bool) -> bytes:
    """Write the answer to a request the gateway refuses."""
    extra: list[bytes] = []
    if error.status == 401:
        extra.append(b'www-authenticate: Bearer realm="blixt"')
    if error.retry_after_s is not None:
        extra.append(b"retry-after: %d" % error.retry_after_s)
    if _is_browser(head):
        page = _PAGE.format(
            title=html.escape(_REASONS[error.status]),
            message=html.escape(str(error)),
            hint=_marked_up(error.advice),
        )
        kind, body = b"text/html; charset=utf-8", page.encode()
        extra.append(b"content-security-policy: default-src 'none'; style-src 'unsafe-inline'")
    else:
        detail = {"code": error.code, "message": str(error), "hint": error.advice}
        kind, body = b"application/json", json.dumps({"error": detail}).encode()
    return _write(error.status, kind, body, extra, head, close=close)


def redirect_response(location: str, cookie: str, head: RequestHead, *, close: bool) -> bytes:
    """Write a redirect that sets a cookie."""
    extra = [b"location: " + location.encode("ascii"), b"set-cookie: " + cookie.encode("ascii")]
    return _write(303, b"text/plain", b"", extra, head, close=close)


def _write(
    status: int, kind: bytes, body: bytes, extra: list[bytes], head: RequestHead | None, *, close: bool
) -> bytes:
    lines = [
        b"HTTP/1.1 %d %b" % (status, _REASONS[status].encode()),
        b"content-type: " + kind,
        b"content-length: %d" % len(body),
        b"cache-control: no-store",
        b"referrer-policy: no-referrer",
        *extra,
    ]
    if close:
        lines.append(b"connection: close")
    lines.append(b"\r\n")
    return b"\r\n".join(lines) + (b"" if head is not None and head.method == b"HEAD" else body)


def _is_browser(head: RequestHead | None) -> bool:
    return head is not None and head.method == b"GET" and b"text/html" in head.index.get(b"accept", b"")


def _marked_up(hint: str) -> str:
    parts = html.escape(hint).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
