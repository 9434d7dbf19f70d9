"""HTTP to the server: the token, time-outs, retries where they are safe, errors as exceptions."""

import random
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from blixt.client.config import Connection
from blixt.client.errors import ProtocolError, ServerUnreachable, error_from

API = "/api/v1"
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_RETRY_STATUS = frozenset({502, 503, 504})
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

Params = Mapping[str, str | int | float | bool | None]
Content = bytes | Iterable[bytes]


class Transport:
    """One pooled HTTP client for one server, safe to share between threads.

    Reads, and writes that may be repeated (PUT, DELETE), are tried again with growing pauses when the
    connection breaks or the server is restarting; a POST is repeated only when it never left this machine.

    Args:
        connection: The address and the token.
        timeout_s: How long one answer may take.
        retries: How often a request is repeated; the pauses add up to about 6 s for the default.
    """

    def __init__(self, connection: Connection, *, timeout_s: float = 30.0, retries: int = 6) -> None:
        self.url = connection.url
        self._origin = connection.origin
        self._retries = retries
        self._answered = False  # a server that never answered is not waited for: it is not there
        self._http = httpx.Client(
            base_url=connection.url,
            headers={"Authorization": f"Bearer {connection.token}", "User-Agent": "blixt-python"},
            timeout=httpx.Timeout(timeout_s, connect=5.0),
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=8),
            trust_env=urlsplit(connection.url).hostname not in _LOOPBACK,  # no proxy for this machine
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._http.close()

    def json(self, method: str, path: str, *, body: Any = None, params: Params | None = None) -> Any:
        """Send a request below /api/v1 and return the decoded answer, None when it is empty."""
        response = self._send(method, path, params=params, json=body)
        return _decode(response) if response.content else None

    def put_content(self, path: str, content: Content, *, params: Params | None = None) -> Any:
        """PUT raw bytes; repeated after a broken connection only when they can be read again."""
        response = self._send("PUT", path, params=params, content=content, repeat=isinstance(content, bytes))
        return _decode(response) if response.content else None

    def post_content(self, path: str, content: Content) -> Any:
        """POST raw bytes whose address is their hash, so that repeating is harmless."""
        response = self._send("POST", path, content=content, repeat=isinstance(content, bytes))
        return _decode(response) if response.content else None

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Params | None = None,
        read_timeout_s: float | None = None,
    ) -> Generator[httpx.Response, None, None]:
        """Open an answer that is read as it comes; its status is already checked.

        Args:
            read_timeout_s: How long silence may last; None waits for ever.
        """
        timeout = httpx.Timeout(30.0, connect=5.0, read=read_timeout_s)
        request = self._http.build_request(
            method, API + path, params=_clean(params), json=body, timeout=timeout
        )
        with self._translated():
            response = self._http.send(request, stream=True)
        try:
            self._answered = True
            if response.is_error:
                response.read()
                raise error_from(response.status_code, _body(response))
            with self._translated():
                yield response
        finally:
            response.close()

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: Any = None,
        content: Content | None = None,
        repeat: bool | None = None,
    ) -> httpx.Response:
        repeatable = method in IDEMPOTENT if repeat is None else repeat
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            try:
                response = self._http.request(
                    method, API + path, params=_clean(params), json=json, content=content
                )
            except httpx.TransportError as error:
                unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if last or not (repeatable or unsent) or not self._answered:
                    raise self._unreachable(error) from error
                time.sleep(backoff_s(attempt))
                continue
            self._answered = True
            if response.status_code in _RETRY_STATUS and repeatable and not last:
                time.sleep(backoff_s(attempt))
                continue
            if response.is_error:
                raise error_from(response.status_code, _body(response))
            return response
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _translated(self) -> Generator[None, None, None]:
        try:
            yield
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.TransportError) -> ServerUnreachable:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return ServerUnreachable(
                f"No blixt server answers at {self.url} (known from {self._origin}).",
                "Start it with `blixt up`, or point BLIXT_URL at one that runs.",
            )
        if isinstance(error, httpx.TimeoutException):
            return ServerUnreachable(
                f"The server at {self.url} did not answer in time.", "Try again, or look at its log."
            )
        return ServerUnreachable(
            f"The connection to {self.url} broke: {error or type(error).__name__}.",
            "Check with `blixt status` whether the request took effect, then try again.",
        )


def backoff_s(attempt: int) -> float:
    """The pause before the next try: 0.1, 0.2, 0.4 ... 2 s, jittered so that clients do not march in step."""
    return min(2.0, 0.1 * 2**attempt) * random.uniform(0.75, 1.25)


def escape(part: str) -> str:
    """A name as one part of a path; a file's path keeps its slashes (use `escape_path`)."""
    return quote(part, safe="")


def escape_path(path: str) -> str:
    """A relative file path for a URL, its slashes kept."""
    return quote(path.lstrip("/"), safe="/")


def _clean(params: Params | None) -> dict[str, str | int | float | bool] | None:
    """Leave out what is None: httpx would send it as an empty value."""
    return {key: value for key, value in params.items() if value is not None} if params else None


def _decode(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        raise ProtocolError(
            f"{response.request.url} answered something that is not JSON.",
            "Is this the address of a blixt server?",
        ) from None


def _body(response: httpx.Response) -> object:
    try:
        return response.json()
    except ValueError:
        return response.text
