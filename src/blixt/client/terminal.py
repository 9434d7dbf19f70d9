"""A terminal in a Studio, over a WebSocket."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect

from blixt.client.client import Client
from blixt.client.errors import ServerUnreachable, error_from
from blixt.client.http import API


class Terminal:
    """A shell on a pseudo-terminal: send keys, receive what it shows.

    Iterating yields bytes until the shell ends; `exit_code` is set then.

    Example:
        >>> with Studio.get("lab").terminal() as terminal:   # doctest: +SKIP
        ...     terminal.send("echo hi; exit\\n")
        ...     print(b"".join(terminal).decode())
    """

    def __init__(
        self, client: Client, path: str, *, cols: int = 80, rows: int = 24, session: str | None = None
    ) -> None:
        query: dict[str, str | int] = {"cols": cols, "rows": rows}
        if session:
            query["session"] = session
        url = "ws" + client.url.removeprefix("http") + API + path + "?" + urlencode(query)
        self.exit_code: int | None = None
        self._stack = ExitStack()
        try:
            self._socket = self._stack.enter_context(
                connect(
                    url,
                    additional_headers={"Authorization": f"Bearer {client.connection.token}"},
                    max_size=None,
                    compression=None,
                    proxy=None,
                )
            )
        except InvalidStatus as error:
            raise _refused(error) from error
        except (OSError, WebSocketException) as error:
            raise ServerUnreachable(
                f"No terminal could be opened at {client.url}: {error}.", "Is the server running?"
            ) from error

    def send(self, keys: str | bytes) -> None:
        """Type into it."""
        self._socket.send(keys.encode() if isinstance(keys, str) else keys)

    def resize(self, cols: int, rows: int) -> None:
        """Tell it the size of the window."""
        self._socket.send(json.dumps({"resize": [cols, rows]}))

    def receive(self, timeout_s: float | None = None) -> bytes | None:
        """The next bytes it shows; None when the shell has ended.

        Raises:
            TimeoutError: When nothing came in time.
        """
        try:
            message = self._socket.recv(timeout=timeout_s)
        except ConnectionClosed:
            return None
        if isinstance(message, bytes):
            return message
        fields = json.loads(message)
        if "exit" in fields:
            self.exit_code = int(fields["exit"])
            return None
        return b""

    def __iter__(self) -> Iterator[bytes]:
        while (shown := self.receive()) is not None:
            yield shown

    def read_until(self, marker: str | bytes, timeout_s: float = 30.0) -> str:
        """Collect what it shows until `marker` appears.

        Raises:
            TimeoutError: When the terminal is silent for `timeout_s` before that.
        """
        wanted = marker.encode() if isinstance(marker, str) else marker
        seen = b""
        while wanted not in seen:
            shown = self.receive(timeout_s)
            if shown is None:
                break
            seen += shown
        return seen.decode("utf-8", "replace")

    def close(self) -> None:
        """Leave the terminal."""
        self._stack.close()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _refused(error: InvalidStatus) -> Exception:
    body: object = (error.response.body or b"").decode("utf-8", "replace")
    try:
        body = json.loads(str(body))
    except ValueError:
        pass
    return error_from(error.response.status_code, body)
