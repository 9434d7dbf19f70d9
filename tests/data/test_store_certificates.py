"""Certificates are checked wherever something may be asked over https; only then are the system's read."""

from typing import Any

import obstore.store
import pytest

from blixt.data.store import open_store
from blixt.data.store.errors import StoreError

KEYS = {"access_key_id": "a", "secret_access_key": "b"}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the client of a bucket is told; it is made when something is first asked."""
    told: dict[str, Any] = {}

    def make(bucket: str, *, client_options: dict[str, Any], **more: Any) -> None:
        told.update(client_options)
        raise ValueError("no client")

    for name in ("S3Store", "GCSStore"):
        monkeypatch.setattr(obstore.store, name, make)
    return told


def ask(location: str, credentials: Any, endpoint: dict[str, str]) -> None:
    with pytest.raises(StoreError, match="no client"):
        open_store(location, credentials=credentials, options={"region": "r", **endpoint}).get("x")


@pytest.mark.parametrize("credentials", [KEYS, "unsigned"])
def test_plain_http_with_keys_reads_none(client: dict[str, Any], credentials: Any) -> None:
    ask("s3://bucket/folder", credentials, {"endpoint": "http://127.0.0.1:1"})
    assert client["allow_http"]
    assert client["allow_invalid_certificates"]


@pytest.mark.parametrize(
    ("location", "credentials", "endpoint"),
    [
        ("s3://bucket", KEYS, {"endpoint": "https://127.0.0.1:1"}),
        ("s3://bucket", KEYS, {}),
        ("s3://bucket", None, {"endpoint": "http://127.0.0.1:1"}),
        ("s3://bucket", lambda: KEYS, {"endpoint": "http://127.0.0.1:1"}),
        ("gs://bucket", {"token": "t"}, {"base_url": "http://127.0.0.1:1"}),
    ],
)
def test_all_others_check_them(
    client: dict[str, Any], monkeypatch: pytest.MonkeyPatch, location: str, credentials: Any, endpoint: Any
) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    ask(location, credentials, endpoint)
    assert "allow_invalid_certificates" not in client
