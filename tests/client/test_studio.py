from collections.abc import Iterator
from pathlib import Path

import pytest

from blixt.client import (
    Budget,
    BudgetExceeded,
    Client,
    CommandFailed,
    Conflict,
    InvalidRequest,
    NotFound,
    ObjectData,
    Result,
    Secret,
    StateError,
    Studio,
)
from client.server import Server


@pytest.fixture(scope="module")
def studio(server: Server) -> Iterator[Studio]:
    with server.client() as client:
        Secret.set("api-key", "hush", client=client)
        studio = Studio.create("lab", env={"COLOUR": "blue"}, secrets=["api-key"], client=client)
        yield studio
        studio.delete()


def test_a_command_says_what_it_wrote_and_how_it_ended(studio: Studio) -> None:
    assert studio.run("echo out; echo err >&2; exit 3") == Result("out\n", "err\n", 3)


def test_a_list_of_words_meets_no_shell(studio: Studio) -> None:
    assert studio.run(["echo", "$HOME", "a  b"]).stdout == "$HOME a  b\n"


def test_output_comes_while_the_command_runs(studio: Studio) -> None:
    seen: list[tuple[str, str]] = []

    def on_output(stream: str, text: str) -> None:
        seen.append((stream, text))
        if "go on?" in text:
            studio.run("touch answered")

    command = "echo 'go on?'; until [ -e answered ]; do sleep 0.05; done; echo yes"
    studio.run(command, on_output=on_output, timeout_s=120)
    assert "".join(text for _, text in seen) == "go on?\nyes\n"


def test_a_failing_command_raises_when_asked_to(studio: Studio) -> None:
    with pytest.raises(CommandFailed, match=r"'ls /nowhere' in Studio 'lab' ended with exit code 2: ls: .*"):
        studio.run("ls /nowhere", check=True)


def test_environment_and_secrets_reach_commands(studio: Studio) -> None:
    result = studio.run("echo $COLOUR $API_KEY $EXTRA; pwd", env={"EXTRA": "more"}, cwd="/tmp")
    assert result.stdout == "blue hush more\n/tmp\n"


def test_a_command_that_takes_too_long_is_ended(studio: Studio) -> None:
    assert studio.run("sleep 60", timeout_s=0.3).exit_code == 124


def test_a_folder_goes_in_and_comes_out_byte_for_byte(studio: Studio, tmp_path: Path) -> None:
    source = tmp_path / "project"
    (source / "deep folder").mkdir(parents=True)
    (source / "a.txt").write_text("hello\n")
    (source / "deep folder" / "ö.bin").write_bytes(bytes(range(256)) * 500)
    sent: list[int] = []
    assert studio.upload(source, on_bytes=sent.append) == sum(sent)
    assert studio.run("cat project/a.txt").stdout == "hello\n"
    studio.download("project", tmp_path / "back")
    for name in ("a.txt", "deep folder/ö.bin"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()


def test_a_file_comes_into_an_existing_folder_under_its_own_name(studio: Studio, tmp_path: Path) -> None:
    studio.run("echo 1 > one.txt")
    studio.download("one.txt", tmp_path)
    assert (tmp_path / "one.txt").read_text() == "1\n"


def test_a_missing_file_is_not_found_and_nothing_is_left_here(studio: Studio, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        studio.download("nothing.txt", tmp_path / "here.txt")
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_is_a_terminal(studio: Studio) -> None:
    with studio.terminal(cols=91, rows=33) as terminal:
        terminal.send("stty size; tty -s && echo is-a-$((40 + 2))\n")
        shown = terminal.read_until("is-a-42")
        assert "33 91" in shown
        terminal.resize(70, 20)
        terminal.send("stty size; exit 7\n")
        rest = b"".join(terminal).decode()
    assert "20 70" in rest
    assert terminal.exit_code == 7


def test_a_terminal_of_an_unknown_studio_is_refused(server: Server) -> None:
    with server.client() as client:
        gone = ObjectData("uid", "studio", client.teamspace, "nope", 1, "admin", 0.0, 0.0, False)
        with pytest.raises(NotFound, match="nope"):
            Studio(client, gone).terminal()


def test_files_survive_stop_and_start(studio: Studio) -> None:
    studio.run("echo kept > kept.txt")
    studio.stop()
    assert studio.status == "stopped"
    with pytest.raises(Conflict):
        studio.run("true")
    studio.start()
    assert studio.run("cat kept.txt").stdout == "kept\n"


def test_a_name_that_is_taken_and_a_machine_that_is_not_there_are_said(studio: Studio) -> None:
    with pytest.raises(Conflict, match="lab"):
        Studio.create("lab", client=studio.client)
    with pytest.raises(InvalidRequest, match="gpu-99"):
        Studio.create("other", machine="gpu-99", client=studio.client)
    assert not Studio.exists("other", client=studio.client)


def test_a_budget_too_small_stops_the_start_and_nothing_is_billed(teamspace: Client) -> None:
    Budget.set(limit_uc=1, client=teamspace)
    with pytest.raises((BudgetExceeded, StateError), match=r"left of 0\.000001 cr"):
        Studio.create("dear", client=teamspace)
    assert teamspace.bill().lines == ()
