"""Credentials of stores: from the environment, given, or from a callback that is asked again in time."""

import pickle
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from blixt.data.store import PermissionDeniedError, StoreError, open_store
from data.test_store import Clock

from .servers.azurite import Azure
from .servers.seaweed import ACCESS, S3, SECRET
from .servers.web import WebServer


def test_wrong_ones_are_refused_in_one_sentence(s3: S3) -> None:
    wrong = {**s3.credentials, "secret_access_key": "wrong"}
    with pytest.raises(PermissionDeniedError, match=r"s3://test/a: the store refused the credentials; check"):
        open_store("s3://test", credentials=wrong, options=s3.options).get("a")


def test_the_environment_is_the_default_and_a_plain_http_endpoint_works(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    store = open_store(s3.location())
    store.put("a", b"1")
    assert store.get("a") == b"1"


def test_an_aws_profile_is_found_where_the_environment_has_no_keys(
    s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "credentials"
    file.write_text(f"[work]\naws_access_key_id={ACCESS}\naws_secret_access_key={SECRET}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "work")
    store = open_store(s3.location(), options=s3.options)
    store.put("a", b"1")
    assert store.get("a") == b"1"


def test_unsigned_requests_read_a_public_bucket_and_no_other(s3: S3) -> None:
    location = s3.location("public")
    open_store(location, credentials=s3.credentials, options=s3.options).put("a", b"1")
    assert open_store(location, credentials="unsigned", options=s3.options).get("a") == b"1"
    with pytest.raises(PermissionDeniedError):
        open_store("s3://test", credentials="unsigned", options=s3.options).get("ready")


def test_temporary_ones_are_renewed_before_they_expire_and_not_at_every_request(s3: S3) -> None:
    asked: list[float] = []
    clock = Clock()

    def callback() -> dict[str, Any]:
        asked.append(clock.now)
        return {
            **s3.credentials,
            "expires_at": datetime.fromtimestamp(clock.now, UTC) + timedelta(hours=1),
        }

    with clock:
        store = open_store(s3.location(), credentials=callback, options=s3.options)
        for _ in range(40):
            store.put("a", b"1")
            clock.now += 290
    assert len(asked) == 4
    assert all(3300 <= later - earlier < 3600 for earlier, later in pairwise(asked))


def test_a_callback_that_fails_is_named_once_the_old_ones_have_expired(s3: S3) -> None:
    clock, answers = Clock(), [s3.credentials]

    def callback() -> dict[str, Any]:
        return {**answers.pop(), "expires_at": clock.now + 100}

    with clock:
        store = open_store(s3.location(), credentials=callback, options=s3.options)
        store.put("a", b"1")
        clock.now += 90
        assert store.get("a") == b"1"
        clock.now += 20
        with pytest.raises(PermissionDeniedError, match="callback for credentials failed"):
            store.get("a")


def test_the_session_token_of_temporary_ones_is_sent(tmp_path: Path) -> None:
    def callback() -> dict[str, Any]:
        keys = {"access_key_id": "A", "secret_access_key": "B", "session_token": "C"}
        return {**keys, "expires_at": time.time() + 3600}

    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "a").write_bytes(b"1")
    for given in (callback, {name: one for name, one in callback().items() if name != "expires_at"}):
        with WebServer(tmp_path) as server:
            store = open_store(
                "s3://bucket", credentials=given, options={"endpoint": server.address, "region": "x"}
            )
            assert store.get_range("a", 0, 1) == b"1"
            assert {headers["x-amz-security-token"] for _, headers in server.requests} == {"C"}


@pytest.mark.parametrize("kind", ["account_key", "sas_token"])
def test_azures_come_from_a_callback_too(azure: Azure, kind: str) -> None:
    def callback() -> dict[str, Any]:
        secret = azure.credentials["account_key"] if kind == "account_key" else "?" + azure.sign()
        name = azure.credentials["account_name"]
        return {"account_name": name, kind: secret, "expires_at": time.time() + 3600}

    store = open_store(azure.location(), credentials=callback, options=azure.options)
    store.put("a", b"1")
    assert store.get("a") == b"1"


@pytest.mark.parametrize(
    ("scheme", "needed"), [("s3", "access_key_id"), ("gs", "token"), ("az", "sas_token")]
)
def test_a_callback_that_gives_something_else_is_told_what_to_give(scheme: str, needed: str) -> None:
    store = open_store(f"{scheme}://bucket", credentials=lambda: {"passwort": "x"})
    with pytest.raises(PermissionDeniedError, match=f"returned passwort; for {scheme}:// return .*{needed}"):
        store.get("a")


def test_an_unknown_name_is_refused(s3: S3) -> None:
    with pytest.raises(StoreError, match="acess_key"):
        open_store("s3://test", credentials={"acess_key": "x"}, options=s3.options).get("a")
    with pytest.raises(StoreError, match="endpiont"):
        open_store("s3://test", credentials=s3.credentials, options={"endpiont": "x"}).get("a")


def test_they_travel_with_the_store_to_another_process(s3: S3) -> None:
    store = open_store(s3.location(), credentials=_Callback(s3), options=s3.options)
    store.put("a", b"1")
    assert pickle.loads(pickle.dumps(store)).get("a") == b"1"


class _Callback:
    def __init__(self, s3: S3) -> None:
        self._credentials = s3.credentials

    def __call__(self) -> dict[str, Any]:
        return {**self._credentials, "expires_at": time.time() + 3600}
