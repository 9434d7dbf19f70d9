import math
from pathlib import Path

import pytest

from blixt.client import Budget, Client, Experiment, Forbidden, Model, NotFound, Secret, SourceError
from client.server import Server


def test_metrics_come_back_as_they_were_logged(teamspace: Client) -> None:
    experiment = Experiment.create("sweep", client=teamspace)
    with experiment.start_run("first", params={"lr": 0.1}) as run:
        for step in range(3):
            run.log({"loss": 1 / (step + 1), "bad": math.nan if step else math.inf}, step=step)
    found = experiment.run("first")
    assert (found.state, found.params) == ("succeeded", {"lr": 0.1})
    assert found.summary["loss"] == pytest.approx(1 / 3)
    metrics = experiment.metrics("first")
    assert metrics["loss"].step == (0, 1, 2)
    assert metrics["loss"].value == pytest.approx((1, 1 / 2, 1 / 3))
    assert math.isinf(metrics["bad"].value[0])
    assert math.isnan(metrics["bad"].value[1])


def test_only_the_metrics_asked_for_come(teamspace: Client) -> None:
    experiment = Experiment.create("some", client=teamspace)
    with experiment.start_run("r") as run:
        for step in range(5):
            run.log({"a": step, "b": step}, step=step)
    assert set(experiment.metrics("r", ["a"])) == {"a"}
    assert experiment.metrics("r", ["a"], since_step=2)["a"].step == (3, 4)


def test_a_run_goes_on_after_a_restart_of_its_writer(teamspace: Client) -> None:
    experiment = Experiment.create("resumed", client=teamspace)
    for step in range(3):
        run = experiment.start_run("r", id="same")
        run.log({"loss": step}, step=step)
    assert experiment.metrics("same")["loss"].value == (0, 1, 2)


def test_two_writers_of_one_run_lose_nothing(teamspace: Client) -> None:
    experiment = Experiment.create("shared", client=teamspace)
    one, two = experiment.start_run("r", id="same"), experiment.start_run("r", id="same")
    one.log({"a": 1}, step=0)
    one.log({"a": 2}, step=1)
    two.log({"b": 1}, step=0)
    metrics = experiment.metrics("same")
    assert metrics["a"].value == (1, 2)
    assert metrics["b"].value == (1,)


def test_one_line_logs_to_a_run_that_stays_open(teamspace: Client) -> None:
    experiment = Experiment.create("script", client=teamspace)
    for step in range(2):
        experiment.log({"loss": step}, step=step)
    assert experiment.run("main").state == "running"
    assert experiment.metrics("main")["loss"].step == (0, 1)


def test_a_run_that_raises_is_failed(teamspace: Client) -> None:
    experiment = Experiment.create("broken", client=teamspace)
    with pytest.raises(ZeroDivisionError), experiment.start_run("r"):
        raise ZeroDivisionError
    assert experiment.run("r").state == "failed"


def test_an_unknown_run_is_not_found(teamspace: Client) -> None:
    with pytest.raises(NotFound):
        Experiment.create("empty", client=teamspace).run("nope")


def test_a_model_version_comes_back_byte_for_byte(teamspace: Client, tmp_path: Path) -> None:
    source = tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    (source / "config.json").write_text('{"a": 1}')
    (source / "deep" / "weights with space.bin").write_bytes(bytes(range(256)) * 2000)
    sent: list[int] = []
    version = Model.upload("gpt", source, metrics={"loss": 1.5}, on_bytes=sent.append, client=teamspace)
    assert (version.version, version.state, version.metrics) == (1, "ready", {"loss": 1.5})
    assert sum(sent) == version.size_bytes
    folder = Model.get("gpt", client=teamspace).download("latest", tmp_path / "back")
    for file in ("config.json", "deep/weights with space.bin"):
        assert (folder / file).read_bytes() == (source / file).read_bytes()


def test_versions_are_numbered_in_order(teamspace: Client, tmp_path: Path) -> None:
    for text in ("one", "two"):
        (tmp_path / "file.txt").write_text(text)
        Model.upload("m", tmp_path / "file.txt", client=teamspace)
    model = Model.get("m", client=teamspace)
    assert [version.version for version in model.versions()] == [1, 2]
    assert (model.download(1, tmp_path / "v1") / "file.txt").read_text() == "one"
    with pytest.raises(NotFound):
        model.version(3)


def test_an_empty_folder_is_no_version(teamspace: Client, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is empty"):
        Model.upload("m", tmp_path, client=teamspace)
    assert not Model.exists("m", client=teamspace)


def test_a_secret_can_be_replaced_read_and_deleted(teamspace: Client) -> None:
    Secret.set("key", "one", client=teamspace)
    secret = Secret.set("key", "two", client=teamspace)
    assert secret.value() == "two"
    assert "two" not in str([item.data for item in Secret.list(client=teamspace)])
    secret.delete()
    assert not Secret.exists("key", client=teamspace)


def test_a_viewer_may_not_read_a_secret(server: Server, teamspace: Client) -> None:
    Secret.set("key", "value", client=teamspace)
    user = "v-" + teamspace.teamspace
    token = teamspace.create_user(user)
    teamspace.set_member(user, "viewer")
    with Client(server.url, token, teamspace.teamspace) as viewer, pytest.raises(Forbidden):
        Secret.get("key", client=viewer).value()


def test_a_budget_can_be_set_again(teamspace: Client) -> None:
    assert Budget.set(2, client=teamspace).limit_uc == 2_000_000
    budget = Budget.set(limit_uc=3, period="month", client=teamspace)
    assert (budget.limit_uc, budget.spent_uc, budget.remaining_uc) == (3, 0, 3)
    assert teamspace.bill().budget_uc == 3
    budget.delete()
    assert teamspace.bill().budget_uc is None
