"""The attempts of one call: after each failure, how long to wait for the next, or the error to raise."""

import httpx

from blixt.serve.client.call import remote_error
from blixt.serve.client.errors import ServiceUnreachable
from blixt.serve.client.retry import REFUSED, Retry

BEGAN = "x-blixt-began"
"""Header of a 503 for work that a worker had begun when it died."""


class Tries:
    """Counts a call's attempts; knows nothing of sleeping or sending."""

    def __init__(self, url: str, retry: Retry) -> None:
        self._url = url
        self._retry = retry
        self._made = 0

    def refused(self, answer: httpx.Response, body: bytes) -> float:
        """An error answer: seconds to wait before the next attempt.

        Raises:
            RemoteError: There is no next attempt.
        """
        self._made += 1
        repeatable = answer.status_code in REFUSED and (self._retry.unsafe or BEGAN not in answer.headers)
        if not repeatable or self._made >= self._retry.attempts:
            raise remote_error(answer, body)
        return self._retry.pause_s(self._made, answer.headers)

    def unreachable(self, error: httpx.TransportError) -> float:
        """A broken or missing connection: seconds to wait before the next attempt.

        Raises:
            ServiceUnreachable: There is no next attempt.
        """
        self._made += 1
        repeatable = self._retry.unsafe or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        if not repeatable or self._made >= self._retry.attempts:
            raise self._failure(error) from error
        return self._retry.pause_s(self._made)

    def _failure(self, error: httpx.TransportError) -> ServiceUnreachable:
        tried = "" if self._made == 1 else f" after {self._made} attempts"
        why = str(error) or type(error).__name__
        if isinstance(error, httpx.TimeoutException):
            return ServiceUnreachable(
                f"{self._url} did not answer in time{tried} ({why}); raise timeout_s if it is slow"
            )
        return ServiceUnreachable(f"{self._url} cannot be reached{tried}: {why}; is the server running?")
