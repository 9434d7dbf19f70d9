"""A real server in its own process, and the few verbs the tests speak to it with."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from blixt.cloud import supervisor

DEADLINE_S = 120.0


class Cluster:
    """One server under its supervisor, on a data folder of its own."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.up()

    def up(self) -> None:
        supervisor.up(self.data_dir, port=0, detach=True)
        self.reconnect()

    def reconnect(self) -> None:
        status = supervisor.status(self.data_dir)
        assert status.url is not None
        self.url = status.url
        self.token = (self.data_dir / "token").read_text().strip()
        self.http = self.client(self.token)

    def client(self, token: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(
            base_url=f"{self.url}/api/v1/", headers=headers, timeout=DEADLINE_S, trust_env=False
        )

    def down(self) -> None:
        supervisor.down(self.data_dir)

    @property
    def server_pid(self) -> int:
        pid = supervisor.status(self.data_dir).pid
        assert pid is not None
        return pid

    def kill_server(self) -> None:
        """kill -9, and wait until the supervisor's next server answers."""
        old = self.server_pid
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: supervisor.status(self.data_dir).pid not in (None, old), "the server is back")

    def create(self, plural: str, name: str, teamspace: str = "default", **spec: Any) -> dict[str, Any]:
        answer = self.http.post(f"teamspaces/{teamspace}/{plural}", json={"name": name, "spec": spec})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def get(self, plural: str, name: str) -> dict[str, Any]:
        answer = self.http.get(f"teamspaces/default/{plural}/{name}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(f"teamspaces/default/{path}", json=body)

    def wait_state(self, plural: str, name: str, *states: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def reached() -> bool:
            found.update(self.get(plural, name))
            return found["status"]["state"] in states

        wait_until(reached, lambda: f"{plural}/{name} is one of {states}: {found.get('status')}")
        return found

    def exec(self, studio: str, command: list[str] | str, **options: Any) -> "Ran":
        body = {"command": command, **options}
        ran = Ran()
        with self.http.stream("POST", f"teamspaces/default/studios/{studio}/exec", json=body) as answer:
            if answer.status_code != 200:
                answer.read()
            assert answer.status_code == 200, answer.text
            for line in answer.iter_lines():
                ran.take(json.loads(line))
        return ran

    def logs(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """The events of a log's stream, to its end."""
        events: list[dict[str, Any]] = []
        with self.http.stream("GET", f"teamspaces/default/{path}/logs", params=query) as answer:
            if answer.status_code != 200:
                answer.read()
            assert answer.status_code == 200, answer.text
            fields: dict[str, Any] = {}
            for line in answer.iter_lines():
                if line:
                    key, _, value = line.partition(": ")
                    fields[key] = value
                elif "data" in fields:
                    events.append({**fields, "data": json.loads(fields["data"])})
                    fields = {}
        return events

    def log_text(self, path: str, **query: Any) -> str:
        return "".join(e["data"]["text"] for e in self.logs(path, **query) if e["event"] == "log")

    def bill_lines(self, name: str) -> list[dict[str, Any]]:
        lines = self.http.get("teamspaces/default/bill").json()["lines"]
        return [line for line in lines if line["name"] == name]

    def agent_pid(self, allocation: str) -> int:
        """The first process of an allocation's sandbox, as this machine sees it."""
        info = json.loads((self.data_dir / "engine" / "local" / allocation / "info.json").read_text())
        return int(info["child-pid"])


class Ran:
    """What a command in a Studio gave."""

    def __init__(self) -> None:
        self.stdout = ""
        self.stderr = ""
        self.exit: int | None = None

    def take(self, line: dict[str, Any]) -> None:
        if "exit" in line:
            self.exit = line["exit"]
        elif line.get("stream") == "stdout":
            self.stdout += line["data"]
        elif line.get("stream") == "stderr":
            self.stderr += line["data"]


def wait_until(
    condition: Callable[[], bool], what: str | Callable[[], str], deadline_s: float = DEADLINE_S
) -> None:
    """Wait for a condition, never for a time."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what() if callable(what) else what}"
        time.sleep(0.05)


def processes_below(path: Path) -> list[int]:
    """The processes that name a folder on their command line, which is how sandboxes are recognised."""
    found: list[int] = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                line = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if str(path).encode() in line:
                found.append(int(entry))
    return found
