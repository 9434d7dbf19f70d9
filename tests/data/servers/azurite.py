"""Azurite, Microsoft's emulator of Azure's blob storage, where it is installed."""

import base64
import hashlib
import hmac
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import pytest

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The emulator's account and key, the same everywhere."""
_CONTAINER = "test"
_READY_S = 120.0


@dataclass(frozen=True)
class Azure:
    """A running emulator."""

    port: int

    @property
    def credentials(self) -> dict[str, str]:
        return {"account_name": ACCOUNT, "account_key": KEY}

    @property
    def options(self) -> dict[str, str]:
        return {"endpoint": f"http://127.0.0.1:{self.port}/{ACCOUNT}"}

    def sign(self) -> str:
        """Return a token that lets whoever has it read and write for an hour."""
        until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        asked = {
            "sv": "2021-08-06",
            "ss": "b",
            "srt": "sco",
            "sp": "rwdlac",
            "se": until,
            "spr": "https,http",
        }
        parts = (ACCOUNT, asked["sp"], asked["ss"], asked["srt"], "", until, "", asked["spr"], asked["sv"])
        said = "\n".join((*parts, "", ""))
        signature = hmac.new(base64.b64decode(KEY), said.encode(), hashlib.sha256).digest()
        return urlencode({**asked, "sig": base64.b64encode(signature).decode()})

    def location(self) -> str:
        """Return an address that nobody used before."""
        return f"az://{_CONTAINER}/{uuid4().hex}"


@contextmanager
def running(folder: Path) -> Iterator[Azure]:
    """Run the emulator, its data in memory and its log in a folder; skip where it is not installed."""
    installed = Path(sys.executable).parent / "azurite-blob"  # by scripts/azurite/install.py
    program = str(installed) if installed.exists() else shutil.which("azurite-blob")
    if program is None:
        pytest.skip("Azurite is not installed: run scripts/azurite/install.py")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = ("--silent", "--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence")
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), *quiet]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=folder)
    try:
        _create_container(port, process)
        yield Azure(port)
    finally:
        process.kill()
        process.wait()


def _create_container(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            answer = httpx.put(
                f"http://127.0.0.1:{port}/{ACCOUNT}/{_CONTAINER}?restype=container", headers=_signed()
            )
            assert answer.status_code == 201, answer.text
            return
        except httpx.TransportError:
            assert process.poll() is None, "Azurite ended"
            assert time.monotonic() < deadline, "Azurite did not start"
            time.sleep(0.05)


def _signed() -> dict[str, str]:
    """Return the headers of a request that creates the container."""
    now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": now, "x-ms-version": "2021-08-06"}
    resource = f"/{ACCOUNT}/{ACCOUNT}/{_CONTAINER}\nrestype:container"
    said = "PUT" + "\n" * 12 + "".join(f"{name}:{value}\n" for name, value in headers.items()) + resource
    signature = hmac.new(base64.b64decode(KEY), said.encode(), hashlib.sha256).digest()
    return {**headers, "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"}
