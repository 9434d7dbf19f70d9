"""Numbers stream into an Experiment of blixt's cloud, and survive its restarts."""

import math
import os
import threading
import time
import uuid
import warnings
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from blixt.fabric.errors import ConfigError
from blixt.fabric.loggers.base import Logger, Params, plain_params
from blixt.fabric.loggers.http import Refused, Unreachable, request

_STATES = {"success": "succeeded", "failed": "failed", "interrupted": "stopped"}
_BATCH_ROWS = 500


class BlixtLogger(Logger):
    """Sends rows from a thread of its own; the training loop never waits for the network.

    Rows travel in numbered batches. A batch keeps its number and content until the server has acknowledged
    it, and the server takes each number once, so that a server that goes away and comes back leaves neither
    a hole nor a duplicate. A process that restarts in the same run asks where the numbers stopped.

    Args:
        experiment: Name of the Experiment; default BLIXT_EXPERIMENT.
        run: Id and name of the run; default BLIXT_RUN, else a new one.
        url: Address of the cloud; default BLIXT_URL.
        token: Default BLIXT_TOKEN.
        teamspace: Default BLIXT_TEAMSPACE.
        send_every_s: How long rows may gather before they are sent.
        flush_timeout_s: How long `finalize` waits for what is not yet sent.
        max_rows: How many rows wait for a server that is away; further ones are dropped, with a warning.
    """

    def __init__(
        self,
        experiment: str | None = None,
        run: str | None = None,
        *,
        url: str | None = None,
        token: str | None = None,
        teamspace: str | None = None,
        send_every_s: float = 1.0,
        flush_timeout_s: float = 30.0,
        max_rows: int = 200_000,
    ) -> None:
        self._experiment = _setting("experiment", experiment, "BLIXT_EXPERIMENT")
        self._token = _setting("token", token, "BLIXT_TOKEN")
        base = _setting("url", url, "BLIXT_URL").rstrip("/")
        space = _setting("teamspace", teamspace, "BLIXT_TEAMSPACE")
        self._run = run or os.environ.get("BLIXT_RUN") or f"run-{uuid.uuid4().hex[:8]}"
        self._runs_url = f"{base}/api/v1/teamspaces/{quote(space)}/experiments/{quote(self._experiment)}/runs"
        self._send_every_s = send_every_s
        self._flush_timeout_s = flush_timeout_s
        self._max_rows = max_rows
        self._rows: deque[dict[str, Any]] = deque()
        self._batch: list[dict[str, Any]] = []
        self._params: dict[str, Any] | None = None
        self._final_state: str | None = None
        self._seq: int | None = None
        self._dropped = 0
        self._refusal: str | None = None
        self._wake = threading.Condition()
        self._closing = False
        self._deadline = math.inf
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        """The Experiment."""
        return self._experiment

    @property
    def version(self) -> str:
        """The run."""
        return self._run

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Queue one row."""
        values = {name: _travelling(float(value)) for name, value in metrics.items()}
        row = {"step": step if step is not None else 0, "time": time.time(), "values": values}
        with self._wake:
            if len(self._rows) >= self._max_rows:
                self._dropped += 1
                return
            self._rows.append(row)
            if len(self._rows) == 1:
                self._wake.notify()
        self._ensure_thread()

    def log_hyperparams(self, params: Params, *args: Any, **kwargs: Any) -> None:
        """Send what the run was made with."""
        with self._wake:
            self._params = {**(self._params or {}), **plain_params(params)}
            self._wake.notify()
        self._ensure_thread()

    def save(self) -> None:
        """Send now what is queued, without waiting for it."""
        with self._wake:
            self._wake.notify()

    def finalize(self, status: str) -> None:
        """Send the rest and the run's state; give up after `flush_timeout_s` with a warning."""
        self._ensure_thread()
        with self._wake:
            self._final_state = _STATES.get(status, status)
            self._closing = True
            self._deadline = time.monotonic() + self._flush_timeout_s
            self._wake.notify()
            thread = self._thread
        if thread is not None:
            thread.join(self._flush_timeout_s + 5)
        self._thread = None
        self._closing = False
        self._deadline = math.inf
        self._warn_of_loss()

    # --- the thread that owns the connection ------------------------------------------------------

    def _ensure_thread(self) -> None:
        if self._thread is None and self._refusal is None:
            self._thread = threading.Thread(target=self._work, name="blixt-logger", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        delay_s = 0.1
        while True:
            try:
                done = self._send_what_is_due()
                delay_s = 0.1
            except Unreachable:
                done = False
                self._pause(delay_s)
                delay_s = min(delay_s * 2, 5.0)
            except Refused as refusal:
                self._refusal = str(refusal)
                return
            if done or time.monotonic() > self._deadline:
                return

    def _pause(self, seconds: float) -> None:
        with self._wake:
            self._wake.wait(min(seconds, max(0.0, self._deadline - time.monotonic())))

    def _send_what_is_due(self) -> bool:
        """One round; True when the logger is closing and all is sent."""
        if self._seq is None:
            self._seq = self._open_run()
        with self._wake:
            self._wake.wait_for(
                lambda: self._rows or self._batch or self._params is not None or self._closing
            )
            if not self._closing and len(self._rows) < _BATCH_ROWS and not self._batch:
                self._wake.wait(self._send_every_s)
            if not self._batch:
                self._batch = [self._rows.popleft() for _ in range(min(_BATCH_ROWS, len(self._rows)))]
            params, state = self._params, self._final_state
        if self._batch:
            self._send_batch()
        if params is not None:
            self._patch({"params": params})
            with self._wake:
                self._params = None if self._params == params else self._params
        with self._wake:
            finished = self._closing and not self._rows and not self._batch and self._params is None
        if finished and state is not None:
            self._patch({"state": state})
            self._final_state = None
        return finished

    def _send_batch(self) -> None:
        assert self._seq is not None
        body = {"seq": self._seq + 1, "rows": self._batch}
        try:
            self._call(f"{self._runs_url}/{quote(self._run)}/metrics", "POST", body)
        except Refused as refusal:
            if refusal.status != 409:
                raise
            # The server lost numbers it had acknowledged (an older copy was put back): go on where it is.
            self._seq = _expected(refusal) - 1
            raise Unreachable(str(refusal)) from refusal
        self._seq += 1
        self._batch = []

    def _open_run(self) -> int:
        """Create the run, or come back to it; returns the last number it has."""
        body: dict[str, Any] = {
            "id": self._run,
            "name": self._run,
            "params": {},
            "job": os.environ.get("BLIXT_JOB"),
        }
        run = self._call(self._runs_url, "POST", body)
        self._run = str(run.get("id", self._run))
        return int(run.get("metrics_seq", 0))

    def _patch(self, changes: dict[str, Any]) -> None:
        self._call(f"{self._runs_url}/{quote(self._run)}", "PATCH", changes)

    def _call(self, url: str, method: str, body: object) -> dict[str, Any]:
        remaining = max(0.5, min(10.0, self._deadline - time.monotonic()))
        return request(url, self._token, method, body, remaining)

    def _warn_of_loss(self) -> None:
        lost = len(self._rows) + len(self._batch) + self._dropped
        if self._refusal is not None:
            reason = f"the server refused: {self._refusal}"
        elif lost:
            reason = f"the server could not be reached for {self._flush_timeout_s:g} s"
        else:
            return
        sentence = f"BlixtLogger: {lost} row(s) did not reach the experiment {self._experiment!r}: {reason}."
        warnings.warn(sentence, stacklevel=3)

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("BlixtLogger owns a thread and cannot be copied to another process; make it there.")


def from_environment() -> BlixtLogger | None:
    """The logger of the workload that this process is, when it is one of blixt's cloud."""
    if all(os.environ.get(name) for name in ("BLIXT_URL", "BLIXT_TOKEN", "BLIXT_EXPERIMENT")):
        return BlixtLogger()
    return None


def _setting(name: str, given: str | None, variable: str) -> str:
    value = given or os.environ.get(variable)
    if not value:
        raise ConfigError(
            f"BlixtLogger({name})",
            given,
            f"neither it nor {variable} is set",
            "Give it, or run as a blixt Job",
        )
    return value


def _travelling(value: float) -> float | str:
    """JSON has no NaN and no infinity; they travel as text."""
    return value if math.isfinite(value) else str(value)


def _expected(refusal: Refused) -> int:
    """The number the server waits for, from its answer to a gap."""
    expected = refusal.error.get("expected_seq")
    if not isinstance(expected, int):
        raise refusal
    return expected
