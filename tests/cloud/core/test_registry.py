import errno
import hashlib
import math
import socket
import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt.cloud.errors import Invalid
from blixt.cloud.registry import Series, Upload
from blixt.cloud.registry.metrics import in_order, thin
from blixt.cloud.registry.models import check_path

from .conftest import Api, error_of

RUNS = "/api/v1/teamspaces/default/experiments/loss-curves/runs"
VERSIONS = "/api/v1/teamspaces/default/models/gpt/versions"


def _rows(first: int, count: int, **values: Any) -> list[dict[str, Any]]:
    return [
        {"step": first + i, "time": 1.0 + i, "values": values or {"loss": 1.0 / (first + i + 1)}}
        for i in range(count)
    ]


# -- experiments -------------------------------------------------------------------------------------------


def test_a_run_makes_its_experiment_and_the_same_id_is_the_same_run(api: Api) -> None:
    made = api.admin.post(RUNS, json={"id": "train", "params": {"lr": 0.1}, "job": "train"})
    assert made.status_code == 201
    again = api.admin.post(RUNS, json={"id": "train", "params": {"lr": 9}})
    assert again.json() == made.json()
    assert [run["id"] for run in api.admin.get(RUNS).json()["items"]] == ["train"]
    experiment = api.admin.get("/api/v1/teamspaces/default/experiments/loss-curves").json()
    assert experiment["status"]["runs"] == 1


def test_a_run_ends_and_keeps_its_parameters(api: Api) -> None:
    api.admin.post(RUNS, json={"id": "a", "params": {"lr": 0.1}})
    ended = api.admin.patch(f"{RUNS}/a", json={"state": "succeeded", "params": {"best": 1}}).json()
    assert (ended["state"], ended["params"]) == ("succeeded", {"lr": 0.1, "best": 1})
    assert ended["finished_at"] is not None
    assert api.admin.patch(f"{RUNS}/a", json={"state": "tired"}).status_code == 422
    assert api.admin.patch(f"{RUNS}/b", json={"state": "failed"}).status_code == 404


def test_a_batch_sent_twice_is_stored_once_and_a_gap_names_the_batch_expected(api: Api) -> None:
    api.admin.post(RUNS, json={"id": "a"})
    path = f"{RUNS}/a/metrics"
    for seq, first in [(1, 0), (1, 0), (2, 10), (1, 0)]:
        assert api.admin.post(path, json={"seq": seq, "rows": _rows(first, 10)}).status_code == 200
    refused = api.admin.post(path, json={"seq": 4, "rows": []})
    assert refused.status_code == 409
    assert error_of(refused)["expected_seq"] == 3
    curve = api.admin.get(path).json()["loss"]
    assert curve["step"] == list(range(20))
    assert curve["value"][19] == 1 / 20
    run = api.admin.get(f"{RUNS}/a").json()
    assert (run["metrics_seq"], run["summary"]) == (2, {"loss": 1 / 20})


def test_values_that_are_no_numbers_travel_as_strings(api: Api) -> None:
    api.admin.post(RUNS, json={"id": "a"})
    rows = _rows(0, 1, a="nan", b="inf", c="-inf", d=1)
    assert api.admin.post(f"{RUNS}/a/metrics", json={"seq": 1, "rows": rows}).status_code == 200
    read = api.admin.get(f"{RUNS}/a/metrics").json()
    assert {name: curve["value"] for name, curve in read.items()} == {
        "a": ["nan"],
        "b": ["inf"],
        "c": ["-inf"],
        "d": [1.0],
    }
    assert api.admin.get(f"{RUNS}/a").json()["summary"]["a"] == "nan"
    for wrong in ("NaN", "1", None, [], True):
        rows = _rows(0, 1, a=wrong)
        assert api.admin.post(f"{RUNS}/a/metrics", json={"seq": 2, "rows": rows}).status_code == 422


def test_metrics_are_read_by_name_from_a_step_and_thinned(api: Api) -> None:
    api.admin.post(RUNS, json={"id": "a"})
    rows = [{"step": i, "time": 1.0, "values": {"x": i % 7, "y": i, "z": 0}} for i in range(5000)]
    rows[2500]["values"]["x"] = 99.0
    api.admin.post(f"{RUNS}/a/metrics", json={"seq": 1, "rows": rows})
    read = api.admin.get(f"{RUNS}/a/metrics", params={"names": "x,y", "max_points": 100}).json()
    assert set(read) == {"x", "y"}
    assert len(read["x"]["step"]) <= 100
    assert 99.0 in read["x"]["value"]
    late = api.admin.get(f"{RUNS}/a/metrics", params={"names": "y", "since_step": 4997}).json()
    assert late["y"]["step"] == [4998, 4999]


def test_steps_logged_again_after_a_resume_replace_the_old_ones(api: Api) -> None:
    api.admin.post(RUNS, json={"id": "a"})
    for seq, first, value in [(1, 0, 1.0), (2, 3, 2.0)]:
        rows = _rows(first, 5, loss=value)
        api.admin.post(f"{RUNS}/a/metrics", json={"seq": seq, "rows": rows})
    curve = api.admin.get(f"{RUNS}/a/metrics").json()["loss"]
    assert curve["step"] == list(range(8))
    assert curve["value"] == [1.0] * 3 + [2.0] * 5


def test_deleting_an_experiment_takes_its_runs_and_metrics_along(api: Api) -> None:
    api.admin.post(RUNS, json={"id": "a"})
    api.admin.post(f"{RUNS}/a/metrics", json={"seq": 1, "rows": _rows(0, 3)})
    api.admin.delete("/api/v1/teamspaces/default/experiments/loss-curves")
    assert api.admin.get(f"{RUNS}/a").status_code == 404
    api.admin.post(RUNS, json={"id": "a"})
    assert api.admin.get(f"{RUNS}/a/metrics").json() == {}


VALUES = st.floats(allow_nan=True, allow_infinity=True)


@given(values=st.lists(VALUES, min_size=1, max_size=400), max_points=st.integers(1, 60))
def test_thinning_keeps_the_bound_the_ends_and_the_extremes(values: list[float], max_points: int) -> None:
    count = len(values)
    whole = Series(array("q", range(count)), array("d", [0.0] * count), array("d", values))
    few = thin(whole, max_points)
    assert len(few.steps) <= max(max_points, 1)
    assert list(few.steps) == sorted(set(few.steps))
    assert few.steps[-1] == count - 1
    if max_points >= 5:
        assert few.steps[0] == 0
        numbers = [value for value in values if not math.isnan(value)]
        if numbers:
            assert {min(numbers), max(numbers)} <= set(few.values)
        assert any(map(math.isnan, values)) == any(map(math.isnan, few.values))


@given(steps=st.lists(st.integers(-50, 50), max_size=60))
def test_ordering_leaves_one_point_a_step_the_last_one_logged(steps: list[int]) -> None:
    count = len(steps)
    series = Series(array("q", steps), array("d", [0.0] * count), array("d", range(count)))
    ordered = in_order(series)
    last = {step: float(index) for index, step in enumerate(steps)}
    assert dict(zip(ordered.steps, ordered.values, strict=True)) == last
    assert list(ordered.steps) == sorted(last)


# -- models ------------------------------------------------------------------------------------------------


def _version(api: Api, **body: Any) -> int:
    made = api.admin.post(VERSIONS, json=body)
    assert made.status_code == 201
    return made.json()["version"]


def test_a_model_version_is_uploaded_committed_and_downloaded(api: Api) -> None:
    version = _version(api, job="train", metadata={"arch": "gpt"})
    weights = bytes(range(256)) * 20_000
    sent = api.admin.put(f"{VERSIONS}/{version}/files/model.safetensors", content=weights).json()
    assert sent["sha256"] == hashlib.sha256(weights).hexdigest()
    api.admin.put(f"{VERSIONS}/{version}/files/sub/config.json", content=b"{}")
    assert api.admin.get(f"{VERSIONS}/latest").status_code == 404
    done = api.admin.post(f"{VERSIONS}/{version}/commit", json={"metrics": {"loss": 1.5}}).json()
    assert (done["state"], done["metrics"], done["job"]) == ("ready", {"loss": 1.5}, "train")
    assert [file["path"] for file in done["files"]] == ["model.safetensors", "sub/config.json"]
    assert api.admin.get(f"{VERSIONS}/latest").json() == done
    got = api.admin.get(f"{VERSIONS}/latest/files/model.safetensors")
    assert got.content == weights
    part = api.admin.get(f"{VERSIONS}/1/files/model.safetensors", headers={"Range": "bytes=256-259"})
    assert (part.status_code, part.content) == (206, b"\x00\x01\x02\x03")


def test_a_committed_version_never_changes(api: Api) -> None:
    version = _version(api)
    api.admin.put(f"{VERSIONS}/{version}/files/a", content=b"1")
    first = api.admin.post(f"{VERSIONS}/{version}/commit")
    assert api.admin.post(f"{VERSIONS}/{version}/commit").json() == first.json()
    assert api.admin.put(f"{VERSIONS}/{version}/files/a", content=b"2").status_code == 409
    assert api.admin.get(f"{VERSIONS}/{version}/files/a").content == b"1"


def test_a_version_without_files_cannot_be_committed(api: Api) -> None:
    refused = api.admin.post(f"{VERSIONS}/{_version(api)}/commit")
    assert refused.status_code == 409
    assert "no files" in error_of(refused)["message"]


def test_versions_count_up_and_the_same_id_is_the_same_version(api: Api) -> None:
    assert [_version(api, id="job-1"), _version(api, id="job-2"), _version(api, id="job-1")] == [1, 2, 1]


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/passwd", "a//b", "", ".", "a/..", "a\\b", "a\0b", "a/" * 300, "a\nb"]
)
def test_a_path_that_leaves_the_model_is_refused(path: str) -> None:
    with pytest.raises(Invalid, match="not a path inside"):
        check_path(path)


def test_a_path_that_leaves_the_model_is_refused_on_the_wire(api: Api) -> None:
    version = _version(api)
    host, port = api.url.removeprefix("http://").split(":")
    for path in ("..%2f..%2ftoken", "../../../../token", "%2e%2e/x"):
        # A raw socket, because clients tidy such paths up before they send them.
        with socket.create_connection((host, int(port)), timeout=60) as raw:
            raw.sendall(
                f"PUT {VERSIONS}/{version}/files/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
                f"Authorization: {api.admin.headers['Authorization']}\r\n"
                "Content-Length: 1\r\n\r\nx".encode()
            )
            answer = raw.makefile("rb").read()
        assert answer.startswith((b"HTTP/1.1 422", b"HTTP/1.1 404", b"HTTP/1.1 405")), answer
    assert api.admin.get(f"{VERSIONS}/{version}").json()["files"] == []


def _files(api: Api) -> list[Path]:
    return [file for file in api.cloud.settings.blobs_dir.rglob("*") if file.is_file()]


def test_a_full_disk_is_507_and_leaves_nothing_half_made(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    version = _version(api)
    write = Upload.write

    def full(upload: Upload, data: bytes) -> None:
        if upload.size_bytes:
            upload._file.close()
            upload._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
        write(upload, data)

    monkeypatch.setattr(Upload, "write", full)
    refused = api.admin.put(f"{VERSIONS}/{version}/files/a", content=b"x" * 3_000_000)
    assert refused.status_code == 507
    assert "disk" in error_of(refused)["message"]
    assert _files(api) == []
    assert api.admin.get(f"{VERSIONS}/{version}").json()["files"] == []
    monkeypatch.undo()
    assert api.admin.put(f"{VERSIONS}/{version}/files/a", content=b"x").status_code == 200


def test_a_quota_is_a_full_disk_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def over_quota(*_: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr("os.fsync", over_quota)
    assert api.admin.post("/api/v1/teamspaces/default/blobs", content=b"x").status_code == 507
    assert _files(api) == []


def test_an_upload_cut_off_halfway_leaves_nothing(api: Api) -> None:
    version = _version(api)
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as raw:
        raw.sendall(
            f"PUT {VERSIONS}/{version}/files/a HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: {api.admin.headers['Authorization']}\r\nContent-Length: 99\r\n\r\nx".encode()
        )
        _until(lambda: len(_files(api)) == 1)
    _until(lambda: _files(api) == [])
    assert api.admin.get(f"{VERSIONS}/{version}").json()["files"] == []


def _until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that the server brings about by itself."""
    wait, deadline = threading.Event(), time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        wait.wait(0.01)


def test_deleting_a_model_removes_its_bytes_unless_something_else_has_them(api: Api) -> None:
    version = _version(api)
    api.admin.put(f"{VERSIONS}/{version}/files/mine", content=b"mine")
    api.admin.put(f"{VERSIONS}/{version}/files/shared", content=b"shared")
    blob = api.admin.post("/api/v1/teamspaces/default/blobs", content=b"shared").json()["id"]
    assert api.admin.delete("/api/v1/teamspaces/default/models/gpt").status_code == 200
    assert [file.name for file in _files(api)] == [blob]
    assert api.admin.get(f"/api/v1/teamspaces/default/blobs/{blob}").content == b"shared"
    assert api.admin.get(VERSIONS).status_code == 404


def test_a_blob_is_its_hash_and_seen_only_where_it_was_uploaded(api: Api) -> None:
    blobs = "/api/v1/teamspaces/default/blobs"
    first, second = (api.admin.post(blobs, content=b"source").json() for _ in range(2))
    assert first == second == {"id": hashlib.sha256(b"source").hexdigest(), "size_bytes": 6}
    api.admin.post("/api/v1/teamspaces", json={"name": "other"})
    assert api.admin.get(f"{blobs}/{first['id']}").content == b"source"
    assert api.admin.get(f"/api/v1/teamspaces/other/blobs/{first['id']}").status_code == 404


def test_a_download_is_never_shown_as_a_page(api: Api) -> None:
    blob = api.admin.post("/api/v1/teamspaces/default/blobs", content=b"<script>alert(1)</script>").json()
    headers = api.admin.get(f"/api/v1/teamspaces/default/blobs/{blob['id']}").headers
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"].startswith("attachment")
    assert headers["x-content-type-options"] == "nosniff"
