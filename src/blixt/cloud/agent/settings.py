"""What the engine tells the agent, in a file that only the agent can read and that it removes at once."""

import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AgentSettings:
    """The agent's whole configuration.

    Attributes:
        allocation: The allocation's id.
        url: The server's public address, e.g. http://127.0.0.1:8480.
        token: Proves to the server which allocation this is.
        home: `$HOME` of everything the agent starts.
        run: The allocation's own folder, for logs and exit codes.
    """

    allocation: str
    url: str
    token: str
    home: Path
    run: Path

    @property
    def connect_url(self) -> str:
        """The WebSocket address to dial."""
        return "ws" + self.url.removeprefix("http") + "/api/v1/agents/connect"


def load(file: Path) -> AgentSettings:
    """Read the settings and remove the file."""
    values = json.loads(file.read_text())
    file.unlink()
    return AgentSettings(
        allocation=values["allocation"],
        url=values["url"],
        token=values["token"],
        home=Path(values["home"]),
        run=Path(values["run"]),
    )


def become(uid: int) -> None:
    """Drop from root to a system user, for good: groups first, then the user."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
