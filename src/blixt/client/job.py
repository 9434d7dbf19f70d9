"""Job: a command that runs to its end, on one machine or many."""

import os
import re
import secrets as randomness
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

from blixt.client.client import Client, default_client
from blixt.client.errors import StateError
from blixt.client.logs import read_logs
from blixt.client.resource import Stateful
from blixt.client.types import LogLine, ObjectData

FINAL_STATES = frozenset({"succeeded", "failed", "stopped"})


class Job(Stateful):
    """A command with its machines, environment and outcome.

    Example:
        >>> from blixt import Job
        >>> job = Job.run("python train.py", machine="cpu-2", processes=2, model="gpt")   # doctest: +SKIP
        >>> for piece in job.logs(follow=True): print(piece.text, end="")                 # doctest: +SKIP
        >>> job.wait().state                                                              # doctest: +SKIP
        'succeeded'
    """

    kind = "job"
    plural = "jobs"

    @classmethod
    def run(
        cls,
        command: str | Sequence[str],
        *,
        name: str | None = None,
        machine: str = "cpu-1",
        machines: int = 1,
        processes: int = 1,
        source: str | os.PathLike[str] | None = ".",
        studio: str | None = None,
        model: str | None = None,
        experiment: str | None = None,
        env: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
        max_restarts: int = 0,
        timeout_s: int | None = None,
        client: Client | None = None,
    ) -> Self:
        """Start a job; returns as soon as the server has taken it.

        Args:
            command: A shell line, or a list of arguments that no shell touches.
            name: Its name; made from the command when not given.
            machine: An offer's name, such as `cpu-2`.
            machines: How many of them.
            processes: Processes on each machine; each gets RANK, WORLD_SIZE ... as torchrun would give.
            source: A folder to pack and unpack in the job's working directory; None sends nothing.
            studio: Start from a copy of this Studio's files instead of `source`.
            model: Upload what the command leaves in $BLIXT_MODEL_OUT as a new version of this Model.
            experiment: Where metrics go; the job's name when not given.
            env: Environment variables.
            secrets: Names of secrets that arrive as environment variables.
            max_restarts: Start again after a failure, this often.
            timeout_s: End it after this long.
            client: The connection; the default one when not given.

        Raises:
            SourceError: When the source folder cannot be packed.
            BudgetExceeded: When the budget does not cover the machines.
        """
        client = client or default_client()
        spec: dict[str, Any] = {
            "command": command if isinstance(command, str) else list(command),
            "machine": machine,
            "machines": machines,
            "processes": processes,
            "env": dict(env or {}),
            "secrets": list(secrets),
            "max_restarts": max_restarts,
        }
        wanted = {"studio": studio, "model": model, "experiment": experiment, "timeout_s": timeout_s}
        spec |= {key: value for key, value in wanted.items() if value is not None}
        if source is not None and studio is None:
            spec["source"] = client.upload_source(source)
        return cls(client, client.create_object(cls.plural, name or suggest_name(command), spec))

    @property
    def exit_code(self) -> int | None:
        """The command's exit code, None before its end."""
        return self.data.status.get("exit_code")

    @property
    def model_version(self) -> int | None:
        """The version of the Model that it made, None when it made none."""
        return self.data.status.get("model_version")

    @property
    def experiment(self) -> str:
        """The Experiment that its metrics go to."""
        return str(self.spec.get("experiment") or self.name)

    def logs(
        self, *, follow: bool = False, since: int | str = 0, rank: int | Literal["all"] = 0
    ) -> Iterator[LogLine]:
        """What one rank wrote, or all of them.

        Args:
            follow: Go on until the job ends, across restarts of the server, without hole or duplicate.
            since: Begin after the piece with this `offset`.
            rank: Whose output; `"all"` mixes them as they come, each piece with its rank.
        """
        return read_logs(self.client, self._path("logs"), follow=follow, since=since, params={"rank": rank})

    def wait(self, timeout_s: float | None = None, *, check: bool = False) -> Self:
        """Wait for its end.

        Args:
            timeout_s: How long; None for as long as it takes.
            check: Raise StateError unless it succeeded.
        """
        self._wait(_is_final, timeout_s)
        if check and self.state != "succeeded":
            raise StateError(
                f"The job {self.name!r} {self.state}: {self.reason or 'no reason given'}",
                f"See `blixt job logs {self.name}`.",
            )
        return self

    def stop(self, *, wait: bool = True, timeout_s: float = 60.0) -> Self:
        """Ask it to end (SIGTERM, then SIGKILL); one that has ended stays as it is."""
        self.client.http.json("POST", self._path("stop"))
        return self.wait(timeout_s) if wait else self.refresh()


def suggest_name(command: str | Sequence[str]) -> str:
    """A name from a command: `python train.py --lr 1` becomes `train-3f9a2c`.

    Args:
        command: The shell line or the list of arguments.
    """
    try:
        words = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError:
        words = str(command).split()
    telling = [word for word in words if not word.startswith("-") and not re.match(r"python[\d.]*$", word)]
    stem = os.path.splitext(os.path.basename(telling[0]))[0] if telling else ""
    clean = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].strip("-")
    return f"{clean or 'job'}-{randomness.token_hex(3)}"


def _is_final(data: ObjectData) -> bool:
    return data.status.get("state") in FINAL_STATES
