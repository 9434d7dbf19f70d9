"""One JSON request to blixt's API, with the standard library only."""

import json
import urllib.error
import urllib.request
from typing import Any, cast

_RETRY = {408, 425, 429, 500, 502, 503, 504, 507}


class Unreachable(Exception):
    """Nobody answered, or the answer was to come back later."""


class Refused(Exception):
    """The server understood and said no; asking again would not help."""

    def __init__(self, status: int, code: str, message: str, error: dict[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.error = error


def request(
    url: str, token: str, method: str = "GET", body: object | None = None, timeout_s: float = 10.0
) -> dict[str, Any]:
    """The JSON that the server answers.

    Raises:
        Unreachable: Worth trying again.
        Refused: Not worth trying again.
    """
    data = None if body is None else json.dumps(body, allow_nan=False).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    message = urllib.request.Request(url, data, headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(message, timeout=timeout_s) as answer:
            return cast("dict[str, Any]", json.loads(answer.read() or b"{}"))
    except urllib.error.HTTPError as error:
        detail = _detail(error)
        if error.code in _RETRY:
            raise Unreachable(detail.get("message", str(error))) from error
        sentence = str(detail.get("message") or error)
        raise Refused(error.code, str(detail.get("code", "")), sentence, detail) from error
    except (OSError, ValueError) as error:
        raise Unreachable(str(error)) from error


def _detail(error: urllib.error.HTTPError) -> dict[str, Any]:
    try:
        content = json.loads(error.read())
    except (OSError, ValueError):
        return {}
    detail = cast("dict[str, Any]", content).get("error") if isinstance(content, dict) else None
    return cast("dict[str, Any]", detail) if isinstance(detail, dict) else {}
