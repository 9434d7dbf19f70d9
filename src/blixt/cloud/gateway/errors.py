"""What can go wrong on the way through the gateway: one class a case, each with its status and advice."""

from typing import ClassVar


class GatewayError(Exception):
    """A request the gateway answers itself; the message is one sentence a person can act on."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    hint: ClassVar[str] = ""
    close: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.advice = self.hint if hint is None else hint
        self.retry_after_s = retry_after_s


class BadRequest(GatewayError):
    """The bytes are not a request we can read in exactly one way, so the connection ends."""

    status, code, close = 400, "bad_request", True
    hint = "Send a well-formed HTTP/1.1 request."


class TargetTooLong(BadRequest):
    """The request target exceeds `Limits.target_bytes`."""

    status, code, hint = 414, "uri_too_long", "Shorten the address, or send the data in the body."


class HeadTooLarge(BadRequest):
    """The request head exceeds `Limits.head_bytes` or `Limits.header_count`."""

    status, code, hint = (
        431,
        "headers_too_large",
        "Send fewer or shorter headers; old cookies are a usual cause.",
    )


class UnsupportedVersion(BadRequest):
    """Not HTTP/1.0 or HTTP/1.1."""

    status, code, hint = 505, "http_version", "Speak HTTP/1.1."


class UnsupportedCoding(BadRequest):
    """A transfer coding other than chunked."""

    status, code, hint = 501, "not_implemented", "Use `Transfer-Encoding: chunked` or a Content-Length."


class ExpectationFailed(BadRequest):
    """An Expect header other than 100-continue."""

    status, code, hint = 417, "expectation_failed", "Only `Expect: 100-continue` is understood."


class RequestTimeout(BadRequest):
    """The client did not send its head or body in time."""

    status, code, hint = 408, "request_timeout", "Send the request without long pauses."


class ServerBusy(GatewayError):
    """More connections than `Limits.connections`."""

    status, code, close = 503, "too_many_connections", True
    hint = "Try again in a moment."


class Unauthorized(GatewayError):
    """No token, or one that nobody knows."""

    status, code = 401, "unauthorized"
    hint = "Send `Authorization: Bearer <token>`; `blixt login` shows where tokens come from."


class StudioSessionMissing(Unauthorized):
    """A Studio's origin was opened without a session of that origin."""

    code = "studio_session_missing"
    hint = "Open the Studio from the console or with `blixt studio open`."


class Forbidden(GatewayError):
    """Known, but not allowed in this teamspace."""

    status, code = 403, "forbidden"
    hint = "Ask an owner of the teamspace to add you as a member."


class NotFound(GatewayError):
    """No such route."""

    status, code = 404, "not_found"
    hint = "Check the address; `blixt deployment list` and `blixt studio list` show what there is."


class TooManyWaiting(GatewayError):
    """The deployment's queue is full."""

    status, code = 429, "too_many_requests"
    hint = "Slow down, or raise max_replicas or concurrency of the deployment."


class Unavailable(GatewayError):
    """Nothing can take this request now."""

    status, code = 503, "unavailable"
    hint = "Try again in a moment."


class HoldTimeout(GatewayError):
    """No replica became free within the hold's deadline."""

    status, code = 504, "replica_timeout"
    hint = "Look at the deployment's logs, or raise min_replicas to keep one warm."


class UpstreamTimeout(GatewayError):
    """The upstream did not begin its answer in time."""

    status, code = 504, "upstream_timeout"
    hint = "Look at the logs of the workload."


class BadUpstream(GatewayError):
    """The upstream died, or its answer is not HTTP we can read in exactly one way."""

    status, code = 502, "bad_gateway"
    hint = "Try again; if it stays, look at the logs of the workload."


class ClientGone(Exception):
    """The client went away or stopped reading; nobody is left to answer."""


class UpstreamLost(Exception):
    """The upstream connection ended before any byte of a response: another one may be tried."""


class GatewayStartError(Exception):
    """The public port could not be opened; the message says why and what to do."""


class UnknownStudio(LookupError):
    """A ticket was asked for a Studio or app that has no route."""
