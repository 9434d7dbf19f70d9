import contextlib
import json

import httpx

from blixt.serve.testing import wait_until


def events(text):
    """Server-sent events as (name, value) pairs."""
    out = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        out.append((fields.get("event", ""), json.loads(fields["data"])))
    return out


def ticks(service, **request):
    return httpx.post(f"{service.url}/ticks", json=request, timeout=60)


def test_a_stream_is_server_sent_events(service):
    answer = ticks(service, n=3)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [value["i"] for _, value in events(answer.text)] == [0, 1, 2]


def test_an_empty_stream_is_200_and_nothing(service):
    answer = ticks(service, n=0)
    assert (answer.status_code, answer.text) == (200, "")


def test_an_error_before_the_first_piece_is_a_plain_http_error(service):
    answer = ticks(service, n=3, fail_at=0)
    assert (answer.status_code, answer.json()) == (409, {"detail": "no more"})


def test_an_error_in_the_middle_is_an_event(service):
    got = events(ticks(service, n=3, fail_at=2).text)
    assert [value.get("i") for _, value in got[:2]] == [0, 1]
    assert got[2] == ("error", {"status": 409, "detail": "no more"})


def test_a_mistake_in_the_middle_is_an_event_that_tells_nothing(service):
    text = ticks(service, n=3, break_at=1).text
    assert events(text)[1:] == [("error", {"status": 500, "detail": "Internal Server Error"})]
    assert "hunter2" not in text


def test_streams_of_one_worker_run_side_by_side(service):
    # None of them would end before the others began.
    request = {"n": 1_000_000, "pause_s": 0.005}
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            answer = stack.enter_context(
                httpx.stream("POST", f"{service.url}/ticks", json=request, timeout=60)
            )
            lines = stack.enter_context(contextlib.closing(answer.iter_lines()))
            assert next(lines).startswith("data:")
        wait_until(lambda: service.metric("blixt_serve_in_flight", api="/ticks") == 3, 60, "three streams")


def test_a_client_that_leaves_stops_the_generator(service, tmp_path):
    log = tmp_path / "sent"
    request = {"n": 3000, "pause_s": 0.02, "log": str(log)}  # a minute, if nobody stopped it
    with httpx.stream("POST", f"{service.url}/ticks", json=request) as answer:
        seen = 0
        for line in answer.iter_lines():
            seen += line.startswith("data:")
            if seen == 3:
                break
    wait_until(log.exists, 60, "the generator to be closed")
    # What the worker produced beyond what was read: on the way at that moment, and one step at most until
    # it looked at its socket again. The room is for a machine that schedules two busy processes badly.
    assert int(log.read_text()) < 1500


def test_a_slow_reader_holds_the_generator_instead_of_filling_memory(service, tmp_path):
    log = tmp_path / "sent"
    request = {"n": 100_000, "pad": 5000, "log": str(log)}
    before = service.metric("blixt_serve_stream_pauses_total")
    with httpx.stream("POST", f"{service.url}/ticks", json=request) as answer:
        lines = answer.iter_lines()
        next(lines)
        # Reads nothing more: the sockets fill, the sink reaches its high water, the worker is told to pause.
        wait_until(lambda: service.metric("blixt_serve_stream_pauses_total") > before, 60, "a pause")
        del lines
    wait_until(log.exists, 60, "the generator to be closed")
    assert int(log.read_text()) < 50_000
