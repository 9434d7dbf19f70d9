"""BlixtLogger against a server that goes away and comes back: no hole, no duplicate."""

import json
import math
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from blixt.fabric import BlixtLogger, ConfigError
from blixt.fabric.loggers.experiment import from_environment


class Experiments:
    """The part of blixt's API that a logger uses, with its contents outliving its server."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.rows: list[dict[str, Any]] = []
        self.refuse: tuple[int, dict[str, Any]] | None = None
        self.lose_answers = 0
        self.tokens: set[str] = set()
        self.port = 0
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        parts = path.strip("/").split("/")
        assert parts[:6] == ["api", "v1", "teamspaces", "lab", "experiments", "digits"]
        if self.refuse is not None:
            return self.refuse
        if method == "POST" and parts[6:] == ["runs"]:
            run = self.runs.setdefault(body["id"], {**body, "state": "running", "metrics_seq": 0})
            return 201, run
        run = self.runs[parts[7]]
        if method == "PATCH":
            run["params"] = {**run["params"], **body.get("params", {})}
            run["state"] = body.get("state", run["state"])
            return 200, run
        if body["seq"] > run["metrics_seq"] + 1:
            expected = run["metrics_seq"] + 1
            return 409, {"error": {"code": "gap", "message": "a gap", "expected_seq": expected}}
        if body["seq"] == run["metrics_seq"] + 1:
            run["metrics_seq"] = body["seq"]
            self.rows += body["rows"]
        return 200, {"seq": run["metrics_seq"]}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        experiments = self

        class Handler(BaseHTTPRequestHandler):
            def do(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                experiments.tokens.add(self.headers["Authorization"])
                status, content = experiments.answer(self.command, self.path, body)
                if experiments.lose_answers and self.path.endswith("/metrics"):
                    experiments.lose_answers -= 1
                    self.close_connection = True
                    return
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_PATCH = do

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


@pytest.fixture
def experiments() -> Iterator[Experiments]:
    server = Experiments()
    server.start()
    yield server
    server.stop()


def logger_for(server: Experiments, **options: Any) -> BlixtLogger:
    settings = {"url": f"http://127.0.0.1:{server.port}", "token": "secret", "teamspace": "lab"}
    return BlixtLogger("digits", "run-1", **{**settings, "send_every_s": 0.01, **options})


def wait_until(true: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    tick = threading.Event()
    while not true():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        tick.wait(0.005)


def steps(server: Experiments) -> list[int]:
    return [row["step"] for row in server.rows]


def test_rows_params_and_the_final_state_arrive(experiments: Experiments) -> None:
    logger = logger_for(experiments)
    logger.log_hyperparams({"lr": 0.1, "model": {"width": 4}})
    for step in range(30):
        logger.log_metrics({"loss": 1 / (step + 1)}, step)
    logger.finalize("success")
    run = experiments.runs["run-1"]
    assert steps(experiments) == list(range(30))
    assert experiments.rows[3]["values"] == {"loss": 0.25}
    assert abs(experiments.rows[0]["time"] - time.time()) < 60
    assert (run["params"], run["state"]) == ({"lr": 0.1, "model/width": 4}, "succeeded")
    assert experiments.tokens == {"Bearer secret"}


def test_each_row_arrives_while_the_run_goes_on(experiments: Experiments) -> None:
    logger = logger_for(experiments)
    for step in range(5):
        logger.log_metrics({"loss": step}, step)
        wait_until(lambda sent=step: steps(experiments) == list(range(sent + 1)), f"row {step}")
    logger.log_hyperparams({"lr": 0.1})
    wait_until(lambda: experiments.runs["run-1"]["params"] == {"lr": 0.1}, "the params")
    logger.finalize("success")


def test_a_server_that_goes_away_and_comes_back_gets_every_row_once(experiments: Experiments) -> None:
    logger = logger_for(experiments)
    for step in range(300):
        logger.log_metrics({"loss": step}, step)
        if step in (100, 200):
            wait_until(lambda: len(experiments.rows) > 10, "some rows")
            experiments.stop()
        if step in (150, 250):
            experiments.start()
    logger.finalize("success")
    assert steps(experiments) == list(range(300))


def test_a_batch_whose_acknowledgement_was_lost_is_not_counted_twice(experiments: Experiments) -> None:
    experiments.lose_answers = 2
    logger = logger_for(experiments)
    for step in range(20):
        logger.log_metrics({"loss": step}, step)
    logger.finalize("success")
    assert experiments.lose_answers == 0
    assert steps(experiments) == list(range(20))


def test_a_restarted_process_goes_on_in_its_run(experiments: Experiments) -> None:
    for first in (0, 10):
        logger = logger_for(experiments)
        for step in range(first, first + 10):
            logger.log_metrics({"loss": step}, step)
        logger.finalize("failed")
    assert steps(experiments) == list(range(20))
    assert experiments.runs["run-1"]["state"] == "failed"


def test_numbers_that_json_lacks_travel_as_text(experiments: Experiments) -> None:
    logger = logger_for(experiments)
    logger.log_metrics({"a": math.nan, "b": math.inf, "c": -math.inf}, 1)
    logger.finalize("success")
    assert experiments.rows[0]["values"] == {"a": "nan", "b": "inf", "c": "-inf"}


def test_an_absent_server_delays_the_end_only_until_the_deadline_and_says_what_was_lost() -> None:
    absent = Experiments()
    absent.start()
    absent.stop()
    logger = logger_for(absent, flush_timeout_s=0.5)
    logger.log_metrics({"loss": 1}, 1)
    with pytest.warns(UserWarning, match=r"1 row\(s\) did not reach .* could not be reached for 0.5 s"):
        logger.finalize("success")


def test_a_refusal_is_reported_with_the_servers_own_sentence(experiments: Experiments) -> None:
    experiments.refuse = (401, {"error": {"code": "unauthorized", "message": "The token has expired."}})
    logger = logger_for(experiments)
    logger.log_metrics({"loss": 1}, 1)
    with pytest.warns(UserWarning, match="The token has expired"):
        logger.finalize("success")


def test_the_queue_has_a_bound_and_says_what_it_dropped() -> None:
    absent = Experiments()
    absent.start()
    absent.stop()
    logger = logger_for(absent, max_rows=10, flush_timeout_s=0.2)
    for step in range(50):
        logger.log_metrics({"loss": 1}, step)
    with pytest.warns(UserWarning, match=r"50 row\(s\) did not reach"):
        logger.finalize("success")


def test_the_environment_of_a_job_is_enough(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert from_environment() is None
    settings = {
        "BLIXT_URL": f"http://127.0.0.1:{experiments.port}/",
        "BLIXT_TOKEN": "t",
        "BLIXT_TEAMSPACE": "lab",
        "BLIXT_EXPERIMENT": "digits",
        "BLIXT_RUN": "job-7",
        "BLIXT_JOB": "job-7",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    logger = from_environment()
    assert logger is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # of whatever the collector finds now
        logger.finalize("success")
    run = experiments.runs["job-7"]
    assert (run["name"], run["job"], run["state"]) == ("job-7", "job-7", "succeeded")


def test_a_missing_setting_names_its_variable() -> None:
    with pytest.raises(ConfigError, match="BLIXT_TOKEN"):
        BlixtLogger("digits", url="http://127.0.0.1:1")
