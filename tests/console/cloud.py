"""A real blixt cloud for the browser to look at: one server process on a temporary folder."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

WORKLOADS = Path(__file__).parent / "workloads"
START_S = 120.0
STOP_S = 180.0


@dataclass(frozen=True)
class Cloud:
    """A running cloud and a client that is signed in as its first user."""

    url: str
    token: str
    teamspace: str
    http: httpx.Client

    def path(self, rest: str) -> str:
        return f"/api/v1/teamspaces/{self.teamspace}/{rest}"

    def page(self, rest: str = "") -> str:
        """The address of a page of the console."""
        return f"{self.url}/t/{self.teamspace}/{rest}".rstrip("/")

    def get(self, rest: str) -> Any:
        return self._answer(self.http.get(self.path(rest)))

    def post(self, rest: str, body: dict[str, Any] | None = None) -> Any:
        return self._answer(self.http.post(self.path(rest), json=body or {}))

    def put(self, rest: str, body: dict[str, Any]) -> Any:
        return self._answer(self.http.put(self.path(rest), json=body))

    def create(self, plural: str, name: str, **spec: Any) -> Any:
        return self.post(plural, {"name": name, "spec": spec, "labels": {}})

    def delete(self, plural: str, name: str) -> None:
        self._answer(self.http.delete(self.path(f"{plural}/{name}")))

    def wait_for_state(self, plural: str, name: str, *states: str, timeout_s: float = 120) -> Any:
        """Return the object once it is in one of the states."""

        def there() -> Any:
            found = self.get(f"{plural}/{name}")
            return found if found["status"]["state"] in states else None

        return wait_for(there, f"{plural}/{name} to be {' or '.join(states)}", timeout_s)

    def ticket_url(self) -> str:
        """A one-time link that signs a browser in."""
        return str(self._answer(self.http.post("/api/v1/login/ticket"))["url"])

    @staticmethod
    def _answer(response: httpx.Response) -> Any:
        assert response.is_success, f"{response.request.method} {response.url}: {response.text}"
        return response.json() if response.content else None


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float) -> Any:
    """Return the condition's first true value."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.05)
    return value


@contextmanager
def running_cloud(data_dir: Path) -> Iterator[Cloud]:
    """Run `blixt up` on a free port until the block ends."""
    blixt = Path(sys.executable).parent / "blixt"
    log = data_dir.with_suffix(".log")
    with log.open("wb") as output:
        server = subprocess.Popen(
            [str(blixt), "up", "--port", "0", "--data-dir", str(data_dir)],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    try:
        url = wait_for(lambda: _url(server, data_dir, log), "the cloud to be up", START_S)
        token = (data_dir / "token").read_text().strip()
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as http:
            teamspace = http.get("/api/v1/whoami").json()["teamspaces"][0]["name"]
            yield Cloud(url, token, teamspace, http)
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            raise


def _url(server: "subprocess.Popen[bytes]", data_dir: Path, log: Path) -> str | None:
    assert server.poll() is None, f"`blixt up` ended: {log.read_text()[-2000:]}"
    try:
        url = str(json.loads((data_dir / "server.json").read_text())["url"])
        return url if httpx.get(f"{url}/api/v1/health", timeout=20).is_success else None
    except (OSError, ValueError, KeyError, httpx.HTTPError):
        return None
