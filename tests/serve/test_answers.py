"""What a client gets for one request: good, bad and ugly ones."""

import re

import httpx
import pytest


def post(service, path, **kwargs):
    return httpx.post(f"{service.url}{path}", timeout=60, **kwargs)


def test_json_in_json_out(service):
    answer = post(service, "/predict", json={"do": "echo", "input": [1, {"a": None}]})
    assert (answer.status_code, answer.json()) == (200, {"output": [1, {"a": None}]})
    assert answer.headers["content-type"] == "application/json"


def test_a_struct_annotation_decodes_and_validates(service):
    assert post(service, "/typed", json={"x": 21, "tags": ["a"]}).json() == {"double": 42, "tags": ["a"]}


def test_a_pydantic_annotation_works_and_the_context_travels_from_hook_to_hook(service):
    assert post(service, "/modelled", json={"item": "tea", "count": 2}).json() == {"item": "tea", "count": 3}


def test_bytes_in_are_the_raw_body(service):
    assert post(service, "/raw", content=b"\x00\xff" * 500).json() == 1000


def test_bytes_out_are_sent_as_they_are(service):
    answer = post(service, "/predict", json={"do": "bytes"})
    assert answer.content == b"\x00\x01raw"
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("path", "body", "status", "loc"),
    [
        ("/predict", b"{bad", 400, None),
        ("/predict", b"", 400, None),
        ("/predict", b"\xff\xfe", 400, None),
        ("/typed", b'{"x": ', 400, None),
        ("/typed", b'{"x": "one"}', 422, ["body", "x"]),
        ("/typed", b'{"x": 1, "tags": ["a", 2]}', 422, ["body", "tags", 1]),
        ("/typed", b"{}", 422, ["body", "x"]),
        ("/typed", b"[]", 422, ["body"]),
        ("/modelled", b"nope", 400, None),
        ("/modelled", b'{"item": "tea", "count": 0}', 422, ["body", "count"]),
        ("/modelled", b'{"count": 1}', 422, ["body", "item"]),
        ("/batched", b'"text"', 422, ["body"]),
    ],
)
def test_bad_bodies(service, path, body, status, loc):
    answer = post(service, path, content=body)
    assert answer.status_code == status
    detail = answer.json()["detail"]
    if loc is None:
        assert "not valid JSON" in detail
    else:
        assert detail[0]["loc"] == loc
        assert set(detail[0]) == {"type", "loc", "msg"}


def test_a_curl_without_a_content_type_is_json_all_the_same(service):
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert post(service, "/typed", content=b'{"x": 1}', headers=headers).status_code == 200


def test_a_broken_multipart_form_is_400(service):
    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert post(service, "/typed", content=b"no parts", headers=headers).status_code == 400


def test_an_exception_in_predict_is_a_500_that_tells_nothing(service):
    answer = post(service, "/predict", json={"do": "raise"})
    assert (answer.status_code, answer.json()) == (500, {"detail": "Internal Server Error"})


def test_an_output_that_is_no_json_is_a_500(service):
    assert post(service, "/predict", json={"do": "unencodable"}).status_code == 500


def test_an_http_error_keeps_its_status_detail_and_headers(service):
    answer = post(service, "/predict", json={"do": "teapot"})
    assert (answer.status_code, answer.json()) == (418, {"detail": {"sort": "short and stout"}})
    assert answer.headers["x-tea"] == "green"


def test_unknown_routes_are_404_and_wrong_methods_405(service):
    assert post(service, "/nowhere").json() == {"detail": "Not Found"}
    answer = httpx.get(f"{service.url}/predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_body_over_the_limit_is_413_announced_or_not(service):
    big = b"x" * (33 * 2**20)
    assert post(service, "/raw", content=big).status_code == 413
    assert post(service, "/raw", content=iter([big])).status_code == 413


def test_a_body_of_a_few_megabytes_arrives_whole(service):
    assert post(service, "/raw", content=b"y" * (5 * 2**20)).json() == 5 * 2**20


def test_many_requests_on_one_connection_come_back_to_their_askers(service):
    with httpx.Client(base_url=service.url) as client:
        for i in range(50):
            assert client.post("/predict", json={"do": "echo", "input": i}).json() == {"output": i}


def test_health_ready_info_and_docs_answer(service):
    assert httpx.get(f"{service.url}/health").text == "ok"
    assert httpx.get(f"{service.url}/ready").text == "ready"
    assert [api["path"] for api in service.info()["apis"]][:2] == ["/predict", "/typed"]
    page = httpx.get(f"{service.url}/docs").text
    assert "openapi.json" in page
    assert not re.search(r"https?://|src=|<link|@import", page)  # nothing comes from another host
    assert "post" in httpx.get(f"{service.url}/openapi.json").json()["paths"]["/typed"]
