"""Opening the listening socket ourselves: clear sentences, and the port is known before anything runs."""

import errno
import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from blixt.serve.errors import ConfigError, PortInUse, ServeError

BACKLOG = 2048


@dataclass(frozen=True)
class Listening:
    """How connections are made.

    Args:
        log_level: Of uvicorn's own log.
        ssl_certfile: PEM file of the certificate, with its chain; None serves plain HTTP.
        ssl_keyfile: PEM file of its key; None if it is in `ssl_certfile`.
        ssl_keyfile_password: Opens the key.
        hot_lane: Let eligible routes skip ASGI.
        uvicorn: More settings of uvicorn's, see `uvicorn_options`.
    """

    log_level: str = "warning"
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_keyfile_password: str | None = None
    hot_lane: bool = True
    uvicorn: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def check(self) -> None:
        """See that the certificate can be read, before a port is taken.

        Raises:
            ConfigError: It cannot, or there is a key without a certificate.
        """
        if self.ssl_certfile is None:
            if self.ssl_keyfile is not None:
                raise ConfigError("ssl_keyfile is given without ssl_certfile; give both.")
            return
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile, self.ssl_keyfile_password)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"The certificate {self.ssl_certfile} cannot be used: {error}.") from None

    @property
    def scheme(self) -> str:
        """What a URL begins with."""
        return "http" if self.ssl_certfile is None else "https"

    @property
    def backlog(self) -> int:
        """How many connections may wait to be accepted."""
        return self.uvicorn.get("backlog", BACKLOG)

    @property
    def loop(self) -> str:
        """Which event loop: "auto", "uvloop" or "asyncio"."""
        name = self.uvicorn.get("loop", "auto")
        return "asyncio" if name == "none" else name

    @property
    def http(self) -> str:
        """Which of uvicorn's parsers; the hot lane needs httptools."""
        return self.uvicorn.get("http", "auto")


def listen(
    host: str, port: int, uds: str | None = None, *, shared: bool = False, backlog: int = BACKLOG
) -> socket.socket:
    """A listening TCP socket, or unix socket if `uds` is given.

    Args:
        host: Name or address.
        port: 0 takes a free one.
        uds: A path instead.
        shared: More sockets of this user's will listen on the same port, and the kernel spreads connections.
        backlog: How many connections may wait to be accepted.

    Raises:
        PortInUse: Somebody else listens there.
        ConfigError: The address cannot be used on this machine.
    """
    if uds is not None:
        return _listen_unix(uds, backlog)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, OverflowError) as error:
        raise ConfigError(
            f"Cannot listen on {host}:{port}: {error}. Use an address of this machine."
        ) from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise _explained(error, f"{host}:{port}", "Choose another port, or 0 for a free one.") from None
    sock.setblocking(False)
    return sock


def listen_many(
    host: str, port: int, uds: str | None, count: int, backlog: int = BACKLOG
) -> list[socket.socket]:
    """A listening socket for each front; of a unix path there is one, which they share.

    Raises:
        PortInUse: Somebody else listens there.
        ConfigError: The address cannot be used on this machine.
    """
    if count == 1 or uds is not None:
        sock = listen(host, port, uds, backlog=backlog)
        return [sock, *(sock.dup() for _ in range(count - 1))]
    if port:
        listen(host, port).close()  # a port that may be shared would also let strangers of this user in
    socks = [listen(host, port, shared=True, backlog=backlog)]
    try:
        while len(socks) < count:
            socks.append(listen(host, socks[0].getsockname()[1], shared=True, backlog=backlog))
    except ServeError:
        for sock in socks:
            sock.close()
        raise
    return socks


def address_of(sock: socket.socket, scheme: str = "http") -> str:
    """How a client reaches the socket."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"{scheme}://{host}:{name[1]}"


def _listen_unix(path: str, backlog: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode) and not _answers(path):
            os.unlink(path)  # left behind by a server that was killed
        sock.bind(path)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise _explained(error, path, "Choose another path.") from None
    sock.setblocking(False)
    return sock


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == 0


def _explained(error: OSError, where: str, hint: str) -> ServeError:
    if error.errno == errno.EADDRINUSE:
        return PortInUse(f"{where} is in use by another program. {hint}")
    return ConfigError(f"Cannot listen on {where}: {error.strerror}. {hint}")
