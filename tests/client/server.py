"""A real server process for the tests of the client and of the command line."""

import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from blixt.client import Client


@dataclass(frozen=True)
class Server:
    url: str
    token: str
    data_dir: Path

    def client(self, **options: str) -> Client:
        return Client(self.url, self.token, **options)

    @property
    def env(self) -> dict[str, str]:
        """What a command line needs to find this server."""
        return {"BLIXT_URL": self.url, "BLIXT_TOKEN": self.token}


def start(data_dir: Path) -> tuple[Server, subprocess.Popen[bytes]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "blixt.cloud.api", "--data-dir", str(data_dir), "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            httpx.get(url + "/api/v1/health")
            break
        except httpx.TransportError:
            assert process.poll() is None
            time.sleep(0.1)
    return Server(url, (data_dir / "token").read_text().strip(), data_dir), process
