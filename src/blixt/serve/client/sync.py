"""The client for ordinary code."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Self, TypeVar, overload

import httpx

from blixt.serve.client.call import Call, Files, broken, decode, make_call, piece_of, remote_error
from blixt.serve.client.errors import ServiceUnreachable
from blixt.serve.client.events import EventReader
from blixt.serve.client.retry import Retry
from blixt.serve.client.settings import target
from blixt.serve.client.tries import Tries

T = TypeVar("T")


class Client:
    """Calls a service. Safe to share between threads; close it, or use it in a `with`.

    Args:
        url: Where the service is, such as "http://127.0.0.1:8000".
        api_key: Sent as `Authorization: Bearer`. Default: the environment's `BLIXT_SERVE_API_KEY`.
        timeout_s: How long to wait for the answer, or for a stream's next piece.
        retry: A `Retry`, or how many times to repeat a refused call; 0 never.
        headers: Sent with every call.
        uds: A unix socket to connect to in place of the URL's host.

    Example:
        ```python
        with Client("http://127.0.0.1:8000") as client:
            client.predict({"input": 4.0})  # {'output': 16.0}
        ```
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        retry: Retry | int | None = None,
        headers: Mapping[str, str] | None = None,
        uds: str | None = None,
    ) -> None:
        self._target = target(url, api_key, timeout_s, retry, headers, uds)
        self._http = httpx.Client(
            timeout=self._target.timeouts, transport=httpx.HTTPTransport(uds=uds) if uds else None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @overload
    def predict(
        self,
        body: Any = None,
        *,
        path: str = "/predict",
        returns: type[T],
        files: Files | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T: ...
    @overload
    def predict(
        self,
        body: Any = None,
        *,
        path: str = "/predict",
        returns: None = None,
        files: Files | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any: ...
    def predict(
        self,
        body: Any = None,
        *,
        path: str = "/predict",
        returns: type[Any] | None = None,
        files: Files | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Call an API and return its answer.

        Args:
            body: `bytes` and numpy arrays are sent as they are, anything else as JSON.
            path: The API's path.
            returns: What to read the answer as: a msgspec Struct, dataclass, pydantic model or builtin type.
            files: Send a multipart form: field -> path, bytes, open file or `(name, bytes[, content type])`;
                the items of `body` become its other fields.
            headers: Sent with this call.

        Raises:
            RemoteError: The service answered with an error, or with something that is no `returns`.
            ServiceUnreachable: There was no connection, or it ended before the answer.
        """
        call = make_call(self._target.url(path), body, files, {**self._target.headers, **(headers or {})})
        answer = self._send(call, stream=False)
        return decode(answer, returns)

    def stream(
        self,
        body: Any = None,
        *,
        path: str = "/predict",
        returns: type[T] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[T | Any]:
        """Call a streaming API and yield the pieces as they come; leave the loop to cancel.

        Raises:
            RemoteError: The service refused, or its stream ended with an error event.
            StreamBroken: The connection ended in the middle.
            ServiceUnreachable: There was no connection.
        """
        sent = {**self._target.headers, **(headers or {})}
        call = make_call(self._target.url(path), body, None, sent, accept="text/event-stream")
        answer = self._send(call, stream=True)
        reader, pieces = EventReader(), 0
        try:
            for chunk in answer.iter_bytes():
                for event in reader.feed(chunk):
                    if event.data == "[DONE]":
                        return
                    yield piece_of(event, returns, call.url, pieces)
                    pieces += 1
        except httpx.TransportError as error:
            raise broken(call.url, pieces, error) from error
        finally:
            answer.close()

    def ready(self) -> bool:
        """Whether the service would answer a call now."""
        try:
            return self._http.get(self._target.url("/ready"), headers=self._target.headers).status_code == 200
        except httpx.TransportError:
            return False

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until the service is ready.

        Raises:
            ServiceUnreachable: It was not within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while not self.ready():
            if time.monotonic() > deadline:
                raise ServiceUnreachable(
                    f"{self._target.base} was not ready within {timeout_s:g} s; is the server running?"
                )
            time.sleep(0.05)

    def info(self) -> dict[str, Any]:
        """What is served, by which processes.

        Raises:
            ClientError: As `predict`.
        """
        return self._get("/info")

    def _get(self, path: str) -> Any:
        url = self._target.url(path)
        try:
            answer = self._http.get(url, headers=self._target.headers)
        except httpx.TransportError as error:
            raise ServiceUnreachable(f"{url} cannot be reached: {error}") from error
        if answer.is_error:
            raise remote_error(answer, answer.content)
        return decode(answer, None)

    def _send(self, call: Call, *, stream: bool) -> httpx.Response:
        """Send, as often as the policy allows; a good answer comes back, its body unread when streaming."""
        tries = Tries(call.url, self._target.retry)
        while True:
            try:
                answer = self._http.send(call.build(self._http), stream=stream)
            except httpx.TransportError as error:
                pause_s = tries.unreachable(error)
            else:
                if not answer.is_error:
                    return answer
                body = answer.read()
                answer.close()
                pause_s = tries.refused(answer, body)
            time.sleep(pause_s)
