"""A real cloud for these tests: its own process and data folder."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blixt.client import Client
from blixt.cloud import supervisor

BLIXT = [sys.executable, "-c", "from blixt.cli import main; main()"]


@dataclass(frozen=True)
class Server:
    url: str
    token: str
    data_dir: Path

    def client(self, teamspace: str | None = None) -> Client:
        return Client(self.url, self.token, teamspace)

    @property
    def env(self) -> dict[str, str]:
        """What a command line needs to find this server."""
        return {"BLIXT_URL": self.url, "BLIXT_TOKEN": self.token}

    @property
    def pid(self) -> int:
        """The server's own process, which the supervisor starts again when it dies."""
        return int(json.loads((self.data_dir / "server.json").read_text())["pid"])


@contextmanager
def running(data_dir: Path) -> Iterator[Server]:
    """Start a cloud on a free port, and stop it with all that runs on it."""
    supervisor.up(data_dir, port=0, detach=True)
    try:
        url = str(json.loads((data_dir / "server.json").read_text())["url"])
        yield Server(url, (data_dir / "token").read_text().strip(), data_dir)
    finally:
        supervisor.down(data_dir)


def blixt(
    *words: str,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str = "",
    timeout: float = 240,
) -> subprocess.CompletedProcess[str]:
    """Run a command line as a person would."""
    return subprocess.run(
        [*BLIXT, *words],
        env=os.environ | (env or {}),
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
