"""Experiment: runs to compare, each with parameters and metrics over steps."""

import math
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Self

from blixt.client.client import Client, default_client
from blixt.client.errors import Conflict, ServerUnreachable
from blixt.client.http import escape
from blixt.client.read import read_run, read_series
from blixt.client.resource import Resource
from blixt.client.types import Run, Series
from blixt.client.watch import Outage


class Experiment(Resource):
    """A set of runs.

    Example:
        >>> from blixt import Experiment
        >>> experiment = Experiment.create("sweep")                          # doctest: +SKIP
        >>> with experiment.start_run("lr-1e-3", params={"lr": 1e-3}) as run:   # doctest: +SKIP
        ...     for step in range(100):
        ...         run.log({"loss": 1 / (step + 1)}, step=step)
        >>> experiment.metrics("lr-1e-3")["loss"].value[-1]                  # doctest: +SKIP
        0.01
    """

    kind = "experiment"
    plural = "experiments"

    @classmethod
    def create(cls, name: str, *, description: str = "", client: Client | None = None) -> Self:
        """Create an experiment; raises Conflict when the name is taken."""
        client = client or default_client()
        return cls(client, client.create_object(cls.plural, name, {"description": description}))

    def runs(self) -> list[Run]:
        """Its runs, with the last value of each metric."""
        return [read_run(item) for item in self.client.http.json("GET", self._path("runs"))["items"]]

    def run(self, run: str) -> Run:
        """One run by id, or by name when no id fits (the newest of that name).

        Raises:
            NotFound: When there is none.
        """
        for found in sorted(self.runs(), key=lambda item: item.started_at or 0, reverse=True):
            if run in (found.id, found.name):
                return found
        return read_run(self.client.http.json("GET", self._path("runs", run)))

    def metrics(
        self,
        run: str | Run,
        names: Sequence[str] | None = None,
        *,
        since_step: int | None = None,
        max_points: int = 1000,
    ) -> dict[str, Series]:
        """The metrics of a run.

        Args:
            run: The run, its id or its name.
            names: Which metrics; all of them when not given.
            since_step: Only points from this step on.
            max_points: Thin longer series out to this many points.
        """
        identifier = run.id if isinstance(run, Run) else self.run(run).id
        params: dict[str, str | int | None] = {
            "names": ",".join(names) if names else None,
            "since_step": since_step,
            "max_points": max_points,
        }
        found = self.client.http.json("GET", self._path("runs", identifier, "metrics"), params=params)
        return {name: read_series(series) for name, series in found.items()}

    def start_run(
        self,
        name: str | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        id: str | None = None,
    ) -> "ActiveRun":
        """Begin a run, or go on with the one of that id.

        Args:
            name: What people see; made from the id when not given.
            params: What it was run with.
            id: Its identity, to go on after a restart.
        """
        identifier = id or uuid.uuid4().hex[:12]
        body = {"id": identifier, "name": name or f"run-{identifier[:6]}", "params": dict(params or {})}
        run = read_run(self.client.http.json("POST", self._path("runs"), body=body))
        return ActiveRun(self, run)

    def log(self, values: Mapping[str, float], *, step: int, run: str = "main") -> None:
        """Log to a run by its id, beginning it when there is none: for scripts with one line to say.

        Args:
            values: The metrics.
            step: The step they belong to.
            run: The run's id.
        """
        with self.start_run(run, id=run) as active:
            active.log(values, step=step)
            active.keep_open()


class ActiveRun:
    """A run being written. As a context manager it ends `succeeded`, or `failed` after an exception."""

    def __init__(self, experiment: Experiment, run: Run) -> None:
        self.run = run
        self._client = experiment.client
        self._path = experiment.client.path("experiments", experiment.name, "runs") + "/" + escape(run.id)
        self._seq = run.metrics_seq
        self._open_after = False

    @property
    def id(self) -> str:
        """The run's identity."""
        return self.run.id

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Write metrics of one step: once, also when the connection breaks or the server restarts."""
        row = {"step": step, "time": time.time(), "values": {key: _number(v) for key, v in values.items()}}
        outage, repeated = Outage(), False
        while True:
            number = self._seq + 1
            try:
                stored = self._send(number, row)
            except ServerUnreachable as error:
                outage.wait(error)
                repeated = True
                continue
            except Conflict as conflict:
                if "expected_seq" not in conflict.details:
                    raise
                self._seq = int(conflict.details["expected_seq"]) - 1
                continue
            self._seq = stored
            # A number that was taken means another writer was first, unless this very row took it.
            if stored == number or repeated:
                return

    def finish(self, state: str = "succeeded") -> None:
        """End the run: `succeeded`, `failed` or `stopped`."""
        self._client.http.json("PATCH", self._path, body={"state": state})

    def keep_open(self) -> None:
        """Leave the run `running` at the end of the `with` block."""
        self._open_after = True

    def _send(self, number: int, row: dict[str, Any]) -> int:
        """Send a batch of one row; returns the number of the last batch that the server has."""
        body = {"seq": number, "rows": [row]}
        return int(self._client.http.json("POST", self._path + "/metrics", body=body)["seq"])

    def __enter__(self) -> "ActiveRun":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None or not self._open_after:
            self.finish("failed" if kind else "succeeded")


def _number(value: float) -> float | str:
    """JSON has no NaN and no infinity: they travel as strings."""
    number = float(value)
    return number if math.isfinite(number) else str(number)
