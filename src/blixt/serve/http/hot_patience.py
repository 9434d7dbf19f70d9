"""How long and how much a client may take, and what it is told when it takes more."""

from dataclasses import dataclass
from functools import cached_property

from blixt.serve.config import Limits
from blixt.serve.http.exchange import fastapi_error


@dataclass(frozen=True)
class Verdict:
    """A refusal that ends the connection."""

    status: int
    sentence: str

    @cached_property
    def body(self) -> bytes:
        """The JSON the client gets."""
        return fastapi_error(self.status, self.sentence)


@dataclass(frozen=True)
class Patience:
    """Bounds of one connection, in seconds and bytes.

    Args:
        keep_alive_s: Silence between requests.
        head_s: From the first byte of a request to the last of its headers.
        body_s: Silence in the middle of a body.
        bytes_per_s: How fast a body must come, when `body_s` is over; 0: anyhow.
        read_s: Silence of a client that has an answer to read.
        head_bytes: Size of a request line and its headers.
        silence_s: After how much silence a stream gets a comment.
    """

    keep_alive_s: float
    head_s: float
    body_s: float
    read_s: float
    head_bytes: int
    silence_s: float = float("inf")
    bytes_per_s: float = 0.0

    @classmethod
    def of(cls, limits: Limits, silence_s: float) -> "Patience":
        """The bounds of a server."""
        return cls(
            keep_alive_s=limits.keep_alive_s,
            head_s=limits.receive_timeout_s,
            body_s=limits.receive_timeout_s,
            read_s=limits.timeout_s,
            head_bytes=limits.max_header_bytes,
            silence_s=silence_s,
            bytes_per_s=limits.min_bytes_per_s,
        )

    @cached_property
    def look_s(self) -> float:
        """How often to look: late by a quarter at most."""
        return min(self.keep_alive_s, self.head_s, self.body_s, self.read_s, self.silence_s) / 4

    def of_body(self, silent_s: float, took_s: float, received_bytes: int) -> Verdict | None:
        """What a client is told whose body has come so far in so long; None: it may go on."""
        if silent_s > self.body_s:
            return self.body_verdict
        if self.bytes_per_s and took_s > self.body_s + received_bytes / self.bytes_per_s:
            return self.trickle_verdict
        return None

    @cached_property
    def head_verdict(self) -> Verdict:
        """For headers that trickle."""
        return Verdict(408, f"The request's headers did not arrive within {self.head_s:g} s.")

    @cached_property
    def body_verdict(self) -> Verdict:
        """For a body that stopped."""
        return Verdict(408, f"The request's body stopped for {self.body_s:g} s.")

    @cached_property
    def trickle_verdict(self) -> Verdict:
        """For a body that comes drop by drop."""
        return Verdict(
            408,
            f"The request's body came too slowly: after {self.body_s:g} s it must have come at "
            f"{self.bytes_per_s:g} bytes a second.",
        )
