import json
import stat
from pathlib import Path

import pytest

from blixt.client import (
    Connection,
    NotConfigured,
    credentials_path,
    find_connection,
    forget_credentials,
    save_credentials,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    for name in ("BLIXT_URL", "BLIXT_TOKEN", "BLIXT_TEAMSPACE", "BLIXT_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def local_server(folder: Path, url: str, token: str) -> None:
    folder.mkdir(parents=True)
    (folder / "server.json").write_text(json.dumps({"url": url, "pid": 1, "version": "0"}))
    (folder / "token").write_text(token + "\n")


def test_without_any_source_the_error_says_what_to_do() -> None:
    with pytest.raises(NotConfigured, match="blixt up"):
        find_connection()


def test_arguments_win_over_everything(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local_server(home / ".blixt", "http://local:1", "local-token")
    monkeypatch.setenv("BLIXT_URL", "http://env:1")
    monkeypatch.setenv("BLIXT_TOKEN", "env-token")
    found = find_connection("http://argument:1/", "argument-token", "team")
    assert (found.url, found.token, found.teamspace) == ("http://argument:1", "argument-token", "team")


def test_the_environment_wins_over_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    save_credentials(Connection("http://login:1", "login-token", "main", ""))
    monkeypatch.setenv("BLIXT_URL", "http://env:1")
    monkeypatch.setenv("BLIXT_TOKEN", "env-token")
    monkeypatch.setenv("BLIXT_TEAMSPACE", "env-team")
    found = find_connection()
    assert (found.url, found.token, found.teamspace) == ("http://env:1", "env-token", "env-team")


def test_a_data_folder_named_in_the_environment_wins_over_a_login(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_credentials(Connection("http://login:1", "login-token", "main", ""))
    local_server(home / "elsewhere", "http://local:2", "other-token")
    monkeypatch.setenv("BLIXT_DATA_DIR", str(home / "elsewhere"))
    assert find_connection().token == "other-token"


def test_a_login_wins_over_the_server_in_the_home_folder(home: Path) -> None:
    local_server(home / ".blixt", "http://local:1", "local-token")
    save_credentials(Connection("http://login:1", "login-token", "team", ""))
    found = find_connection()
    assert (found.url, found.token, found.teamspace) == ("http://login:1", "login-token", "team")


def test_the_server_in_the_home_folder_is_found_last(home: Path) -> None:
    local_server(home / ".blixt", "http://local:1", "local-token")
    assert find_connection().token == "local-token"


def test_a_url_alone_finds_the_token_that_a_login_holds_for_it() -> None:
    save_credentials(Connection("http://login:1", "login-token", "main", ""))
    assert find_connection("login:1").token == "login-token"


def test_a_url_without_a_known_token_is_an_error() -> None:
    with pytest.raises(NotConfigured, match=r"no token for http://other:1.*blixt login"):
        find_connection("http://other:1")


def test_credentials_are_readable_by_their_owner_only_and_can_be_forgotten() -> None:
    path = save_credentials(Connection("http://login:1", "login-token", None, ""))
    assert path == credentials_path()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert forget_credentials()
    assert not forget_credentials()


def test_a_damaged_credentials_file_is_named(home: Path) -> None:
    credentials_path().parent.mkdir(parents=True)
    credentials_path().write_text("{")
    with pytest.raises(NotConfigured, match=r"credentials\.json is not a file that blixt wrote"):
        find_connection()
