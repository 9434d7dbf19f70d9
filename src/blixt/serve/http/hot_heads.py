"""The bytes before a body: status lines and headers, the common ones made once a second."""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from blixt.serve.http.exchange import RawHeaders

CLOSE = b"connection: close\r\n"


class Heads:
    """One for all connections of a server; made anew whenever uvicorn renews its default headers (the date).

    `json` is the head of a plain JSON answer up to the digits of its length.
    """

    __slots__ = ("common", "json", "made_of")

    def __init__(self) -> None:
        self.made_of: RawHeaders | None = None
        self.common = self.json = b""

    def make(self, default: RawHeaders) -> None:
        """Use these default headers from now on."""
        self.made_of = default
        self.common = _lines(default)
        self.json = STATUS_LINE[200] + self.common + b"content-type: application/json\r\ncontent-length: "

    def head(self, status: int, headers: RawHeaders, keep_alive: bool) -> bytes:
        """Status line and headers, without the empty line that ends them."""
        line = STATUS_LINE.get(status) or b"HTTP/1.1 %d \r\n" % status
        said = any(name == b"connection" and b"close" in value.lower() for name, value in headers)
        return line + self.common + _lines(headers) + (b"" if keep_alive or said else CLOSE)


def _lines(headers: RawHeaders) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)
