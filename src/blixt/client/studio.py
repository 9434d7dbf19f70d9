"""Studio: a machine of your own with a home folder that stays."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Self

from blixt.client.client import Client, default_client
from blixt.client.errors import BlixtError, CommandFailed, ProtocolError, StateError
from blixt.client.files import local_files, upload_chunks
from blixt.client.http import escape_path
from blixt.client.lines import iter_ndjson
from blixt.client.resource import Stateful
from blixt.client.terminal import Terminal
from blixt.client.types import ObjectData, Result

OutputCallback = Callable[[str, str], None]
"""Called with `"stdout"` or `"stderr"` and a piece of text, as it comes."""


class Studio(Stateful):
    """A persistent machine: start it, run commands, move files, open a terminal or JupyterLab, stop it.

    Example:
        >>> from blixt import Studio
        >>> studio = Studio.create("lab", machine="cpu-1")      # doctest: +SKIP
        >>> studio.run("echo hello > note.txt && cat note.txt") # doctest: +SKIP
        Result(stdout='hello\\n', stderr='', exit_code=0)
        >>> studio.stop(); studio.start()                       # doctest: +SKIP
        >>> studio.run("cat note.txt").stdout                   # doctest: +SKIP
        'hello\\n'
    """

    kind = "studio"
    plural = "studios"

    @classmethod
    def create(
        cls,
        name: str,
        *,
        machine: str = "cpu-1",
        env: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
        idle_timeout_s: int = 0,
        start: bool = True,
        client: Client | None = None,
    ) -> Self:
        """Create a Studio and, unless `start=False`, wait until it runs.

        Args:
            name: Its name: lower-case letters, digits, dashes.
            machine: An offer's name; `Client().machines()` lists them.
            env: Environment variables of everything that runs in it.
            secrets: Names of secrets that arrive as environment variables.
            idle_timeout_s: Stop it after this long without use; 0 never.
            start: Start it now.
            client: The connection; the default one when not given.

        Raises:
            Conflict: When the name is taken.
            BudgetExceeded: When the budget does not cover the machine.
        """
        client = client or default_client()
        spec: dict[str, Any] = {
            "machine": machine,
            "desired": "running" if start else "stopped",
            "env": dict(env or {}),
            "secrets": list(secrets),
            "idle_timeout_s": idle_timeout_s,
        }
        studio = cls(client, client.create_object(cls.plural, name, spec))
        return studio.wait_running() if start else studio

    @property
    def machine(self) -> str:
        """The machine it runs on, or would."""
        return str(self.spec.get("machine", ""))

    def start(self, *, wait: bool = True, timeout_s: float = 120.0) -> Self:
        """Start it; nothing happens when it already runs.

        Args:
            wait: Return only when it runs.
            timeout_s: How long that may take.
        """
        self.client.http.json("POST", self._path("start"))
        return self.wait_running(timeout_s) if wait else self.refresh()

    def stop(self, *, wait: bool = True, timeout_s: float = 120.0) -> Self:
        """Stop it: its processes end, its files stay, and it costs nothing more."""
        self.client.http.json("POST", self._path("stop"))
        if wait:
            self._wait(_has_stopped, timeout_s)
            return self
        return self.refresh()

    def wait_running(self, timeout_s: float = 120.0) -> Self:
        """Wait until it runs and its agent answers.

        Raises:
            StateError: When it failed, with the reason.
        """
        self._wait(_is_running, timeout_s)
        return self

    def run(
        self,
        command: str | Sequence[str],
        *,
        on_output: OutputCallback | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        check: bool = False,
    ) -> Result:
        """Run a command in it and wait for its end.

        Args:
            command: A shell line, or a list of arguments that no shell touches.
            on_output: Called with stream and text as they come; `print_output` writes them through.
            cwd: The folder, relative to home.
            env: More environment variables.
            timeout_s: End the command after this long.
            check: Raise CommandFailed when the exit code is not 0.
        """
        body: dict[str, Any] = {"command": command if isinstance(command, str) else list(command)}
        body |= {"cwd": cwd} if cwd else {}
        body |= {"env": dict(env)} if env else {}
        body |= {"timeout_s": timeout_s} if timeout_s else {}
        texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        with self.client.http.stream("POST", self._path("exec"), body=body) as response:
            exit_code = _read_output(iter_ndjson(response.iter_bytes()), texts, on_output)
        result = Result("".join(texts["stdout"]), "".join(texts["stderr"]), exit_code)
        if check and exit_code != 0:
            shown = command if isinstance(command, str) else shlex.join(command)
            detail = (result.stderr or result.stdout).strip().splitlines()[-1:]
            raise CommandFailed(
                f"{shown!r} in Studio {self.name!r} ended with exit code {exit_code}"
                f"{': ' + detail[0] if detail else ''}."
            )
        return result

    def upload(
        self, source: str | os.PathLike[str], dest: str = "", *, on_bytes: Callable[[int], None] | None = None
    ) -> int:
        """Copy a file, or a folder with all it holds, into it.

        Args:
            source: The file or folder here.
            dest: The path there, relative to home; by default the source's own name. With a slash at the
                end it is the folder to put the source into.
            on_bytes: Called with the size of each piece that was sent.

        Returns:
            How many bytes were sent.
        """
        root = Path(source).expanduser()
        target = dest + root.resolve().name if dest in ("", "./") or dest.endswith("/") else dest
        sent = 0
        for file, relative in local_files(root):
            there = str(PurePosixPath(target) / relative)
            chunks = upload_chunks(file, on_bytes)
            self.client.http.put_content(self._path("files") + "/" + escape_path(there), chunks)
            sent += file.stat().st_size
        return sent

    def download(self, source: str, dest: str | os.PathLike[str] = ".") -> int:
        """Copy a file, or a folder with all it holds, out of it.

        Args:
            source: The path there, relative to home.
            dest: The path here; an existing folder receives the source under its own name.

        Returns:
            How many bytes came.
        """
        target = Path(dest).expanduser()
        if target.is_dir():
            target = target / PurePosixPath(source.rstrip("/")).name
        quoted = shlex.quote(source)
        listing = self.run(f"[ -d {quoted} ] && cd {quoted} && find . -type f")
        if listing.exit_code != 0:
            return self.client.download_to(self._file(source), target)
        received = 0
        for line in listing.stdout.splitlines():
            inside = str(PurePosixPath(line))
            _check_inside(inside)
            received += self.client.download_to(self._file(f"{source.rstrip('/')}/{inside}"), target / inside)
        return received

    def terminal(self, *, cols: int = 80, rows: int = 24, session: str | None = None) -> Terminal:
        """Open a terminal in it, as a context manager.

        Args:
            cols: Width in characters.
            rows: Height in lines.
            session: The name of a session to join or begin; without one a new session begins.
        """
        return Terminal(self.client, self._path("terminal"), cols=cols, rows=rows, session=session)

    def open(self, app: str | int = "jupyter") -> str:
        """A link to JupyterLab (`"jupyter"`) or to a port in it, good for one use in a browser."""
        return str(self.client.http.json("POST", self._path("open"), body={"app": app})["url"])

    def _file(self, path: str) -> str:
        return self._path("files") + "/" + escape_path(path)


def print_output(stream: str, text: str) -> None:
    """An `on_output` callback that writes through to this process's stdout and stderr."""
    out = sys.stderr if stream == "stderr" else sys.stdout
    out.write(text)
    out.flush()


def _read_output(
    messages: Iterator[dict[str, Any]], texts: dict[str, list[str]], on_output: OutputCallback | None
) -> int:
    for message in messages:
        if "exit" in message:
            return int(message["exit"])
        if "error" in message:
            error = message["error"]
            raise BlixtError(str(error.get("message", "The command failed.")), str(error.get("hint", "")))
        stream, text = str(message["stream"]), str(message["data"])
        texts[stream].append(text)
        if on_output:
            on_output(stream, text)
    raise ProtocolError("The command's output ended without an exit code.", "It may still run in the Studio.")


def _is_running(data: ObjectData) -> bool:
    state = data.status.get("state")
    if state == "failed":
        reason = data.status.get("reason") or "no reason given"
        raise StateError(f"The Studio {data.name!r} failed: {reason}", "Start it again, or delete it.")
    return state == "running" and bool(data.status.get("agent_connected", True))


def _has_stopped(data: ObjectData) -> bool:
    return data.status.get("state") in ("stopped", "failed")


def _check_inside(path: str) -> None:
    if path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise ProtocolError(f"The Studio listed the file {path!r}, outside its folder.")
