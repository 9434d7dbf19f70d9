"""One key for the whole server, as `Authorization: Bearer KEY` or `X-API-Key: KEY`."""

import hmac
from collections.abc import Callable, Iterable

Headers = Iterable[tuple[bytes, bytes]]
OPEN_PATHS = frozenset({"/health", "/ready", "/docs", "/redoc", "/openapi.json"})


def key_check(api_key: str | None) -> Callable[[Headers], bool]:
    """The function that says whether a request's headers carry the key."""
    if api_key is None:
        return lambda headers: True
    wanted = api_key.encode()

    def check(headers: Headers) -> bool:
        for name, value in headers:
            if name == b"x-api-key" and hmac.compare_digest(value, wanted):
                return True
            bearer = name == b"authorization" and value[:7].lower() == b"bearer "
            if bearer and hmac.compare_digest(value[7:].strip(), wanted):
                return True
        return False

    return check
