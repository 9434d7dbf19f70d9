"""Routes beyond plain JSON: specs of one's own, the choice of a stream, keep-alives, gzip, authorisation."""

import gzip
import json

import httpx
import pytest
from fastapi.testclient import TestClient

from blixt.serve import Server, Web

from .apis import Count, Slow


def post(service, path, **kwargs):
    return httpx.post(f"{service.url}{path}", timeout=60, **kwargs)


def data(text):
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def test_a_spec_of_ones_own_reads_and_writes_its_own_shapes(web_service):
    answer = post(web_service, "/rot13", content=b"hello\nworld")
    assert (answer.text, answer.headers["content-type"]) == ("uryyb\njbeyq", "text/plain")


def test_a_spec_of_ones_own_refuses_and_streams(web_service):
    assert post(web_service, "/rot13", content="ä".encode()).status_code == 422
    answer = post(web_service, "/rot13", content=b"a\nb\nc")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert sorted(data(answer.text)) == ["n", "o", "p"]


def test_a_mistake_in_a_spec_is_a_500_that_tells_nothing_and_holds_up_nobody(web_service):
    answer = post(web_service, "/rot13", content=b"bug")
    assert (answer.status_code, answer.json()) == (500, {"detail": "Internal Server Error"})
    assert post(web_service, "/rot13", content=b"a").text == "n"


def test_pieces_that_are_too_many_for_one_answer_are_refused(monkeypatch):
    monkeypatch.setattr("blixt.serve.http.lane.MAX_WHOLE_BYTES", 100)
    with TestClient(Server(Count(), accelerator="cpu").app) as client:
        answer = client.post("/count", json={"n": 2000})
        assert (answer.status_code, "as a stream" in answer.json()["detail"]) == (500, True)
        assert client.post("/count", json={"n": 2}).json()["pieces"] == [0, 1]


def test_the_client_chooses_between_a_stream_and_one_answer(web_service):
    assert post(web_service, "/count", json={"n": 3}).json() == {"sum": 3, "pieces": [0, 1, 2]}
    by_header = post(web_service, "/count", json={"n": 3}, headers={"accept": "text/event-stream"})
    by_body = post(web_service, "/count", json={"n": 3, "stream": True})
    for answer in (by_header, by_body):
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert data(answer.text) == [0, 1, 2]


def test_an_error_among_pieces_that_are_joined_is_a_plain_error(web_service):
    answer = post(web_service, "/count", json={"n": 3, "fail_at": 2})
    assert (answer.status_code, answer.json()) == (409, {"detail": "no more"})


@pytest.mark.parametrize("silence", ["before_s", "between_s"])
def test_a_silent_stream_is_kept_alive_by_comments(web_service, silence):
    text = post(web_service, "/slow", json={silence: 0.8}).text
    assert text.count(": keep-alive") >= 1
    assert data(text) == ["first", "second"]


def test_a_stream_that_is_never_silent_has_no_comments():
    with TestClient(Server(Slow(), accelerator="cpu", web=Web(keep_alive_s=60)).app) as client:
        assert client.post("/slow", json={}).text == 'data: "first"\n\ndata: "second"\n\n'


def test_large_answers_are_gzipped_for_those_who_accept_it(web_service):
    headers = {"accept-encoding": "gzip"}
    with httpx.stream("POST", f"{web_service.url}/big", json=5000, headers=headers) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "accept-encoding"
    assert int(answer.headers["content-length"]) == len(raw) < 200
    assert json.loads(gzip.decompress(raw)) == "a" * 5000


@pytest.mark.parametrize(
    ("size", "accepted"), [(5000, "identity"), (5000, "gzip;q=0"), (5000, "br"), (900, "gzip")]
)
def test_answers_stay_plain_for_others_and_when_they_are_small(web_service, size, accepted):
    answer = post(web_service, "/big", json=size, headers={"accept-encoding": accepted})
    assert "content-encoding" not in answer.headers
    assert answer.json() == "a" * size


def test_streams_are_never_gzipped(web_service):
    body = {"n": 1000, "stream": True}
    answer = post(web_service, "/count", json=body, headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in answer.headers


def test_a_sane_request_id_comes_back_and_another_does_not(web_service):
    assert post(web_service, "/big", json=1, headers={"x-request-id": "a-1"}).headers["x-request-id"] == "a-1"
    assert "x-request-id" not in post(web_service, "/big", json=1, headers={"x-request-id": "a b"}).headers
    missing = post(web_service, "/big", content=b"x", headers={"x-request-id": "a-2"})
    assert (missing.status_code, missing.headers["x-request-id"]) == (400, "a-2")


@pytest.mark.parametrize("headers", [{"x-timeout-s": "soon"}, {"x-timeout-s": "-1"}, {"x-priority": "high"}])
def test_a_header_that_is_no_number_is_400(web_service, headers):
    assert post(web_service, "/big", json=1, headers=headers).status_code == 400


def test_a_client_may_be_in_a_hurry(web_service):
    answer = post(web_service, "/slow", json={"before_s": 3}, headers={"x-timeout-s": "0.1"})
    assert answer.status_code == 504


def test_authorize_decides_with_fastapis_dependencies(web_service):
    assert post(web_service, "/guarded", json=1).status_code in (401, 403)
    wrong = post(web_service, "/guarded", json=1, headers={"authorization": "Bearer open rice"})
    assert (wrong.status_code, wrong.headers["x-hint"]) == (403, "seeds")
    right = post(web_service, "/guarded", json=1, headers={"authorization": "Bearer open sesame"})
    assert right.json() == {"got": 1}


def test_authorize_may_look_at_the_body_which_the_api_then_gets_whole(web_service):
    assert post(web_service, "/peek", json="give").status_code == 403
    assert post(web_service, "/peek", json="please " * 5000).json() == "please " * 5000


def test_info_says_which_lane_a_route_has_and_why(web_service):
    apis = {api["path"]: api for api in web_service.info()["apis"]}
    assert apis["/big"]["lane"] == "hot"
    assert apis["/guarded"]["lane"] == "cold"
    assert "authorize" in apis["/guarded"]["lane_reason"]
    assert "chooses" in apis["/count"]["lane_reason"]
    assert web_service.info()["model"] == {"name": "tests"}


def test_routes_of_ones_own_stand_beside_the_apis(web_service):
    assert httpx.get(f"{web_service.url}/hello/ada?loud=true").json() == {"hello": "ADA"}
    assert httpx.get(f"{web_service.url}/hello/ada?loud=maybe").status_code == 422
    assert "/hello/{name}" in httpx.get(f"{web_service.url}/openapi.json").json()["paths"]


def test_events_are_numbered_when_asked_for():
    with TestClient(Server(Count(), accelerator="cpu", web=Web(sse_ids=True)).app) as client:
        text = client.post("/count", json={"n": 2, "stream": True}).text
    assert text == "id: 1\ndata: 0\n\nid: 2\ndata: 1\n\n"


def test_large_pages_of_the_server_are_gzipped_too(web_service):
    answer = httpx.get(f"{web_service.url}/openapi.json", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.json()["openapi"].startswith("3.1")


def test_too_large_a_body_is_413_announced_or_not(web_service):
    big = b'"' + b"x" * 200_000 + b'"'
    assert post(web_service, "/big", content=big).status_code == 413

    def pieces():
        yield big

    authorized = {"authorization": "Bearer open sesame"}
    for path in ("/big", "/guarded", "/rot13"):
        assert post(web_service, path, content=pieces(), headers=authorized).status_code == 413


def test_a_file_of_a_form_arrives_and_the_schema_says_that_it_is_one(web_service):
    answer = post(web_service, "/picture", files={"file": ("cat.png", b"12345", "image/png")})
    assert answer.json() == {"name": "cat.png", "type": "image/png", "size": 5}
    operation = httpx.get(f"{web_service.url}/openapi.json").json()["paths"]["/picture"]["post"]
    assert list(operation["requestBody"]["content"]) == ["multipart/form-data"]


def test_a_form_above_the_payload_limit_is_413(web_service):
    assert post(web_service, "/picture", files={"file": b"x" * 200_000}).status_code == 413
