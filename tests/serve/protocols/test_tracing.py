"""Traces, received by a collector's endpoint that reads OTLP as collectors do."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from blixt.serve import OpenAISpec, Pipeline, Server
from blixt.serve.http.web import Web
from blixt.serve.testing import running

from .apis import Locate, Same, Slow, Talker, Traced

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def spans():
    """All spans of a server that answered a few requests, by trace."""
    received = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            received.append((self.path, ExportTraceServiceRequest.FromString(body)))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector, pytest.MonkeyPatch.context() as patch:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        apis = [Locate(), Slow(), Traced(context_fields=["traceparent"]), Talker(spec=OpenAISpec("talker"))]
        apis.append(Pipeline([Same(), Same()], api_path="/stages"))
        with running(Server(apis, accelerator="cpu", web=Web(tracing=True))) as service:
            seen = _ask(service)
            assert service.terminate() == 0  # which exports what is left
        collector.shutdown()
    assert {path for path, _ in received} == {"/v1/traces"}
    spans = [
        span
        for _, request in received
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    names = [
        attribute.value.string_value
        for _, request in received
        for resource in request.resource_spans
        for attribute in resource.resource.attributes
        if attribute.key == "service.name"
    ]
    assert set(names) == {"blixt-serve"}
    return spans, seen


def _ask(service):
    parent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    httpx.post(f"{service.url}/locate", json={"x": 1}, headers=parent)
    httpx.post(f"{service.url}/locate", json={"x": "one"})
    httpx.post(f"{service.url}/slow", json={})
    assert httpx.post(f"{service.url}/stages", json=7).json() == 7
    chat = {"model": "talker", "messages": [{"role": "user", "content": "a"}], "n": 2}
    httpx.post(f"{service.url}/v1/chat/completions", json=chat)
    return httpx.post(f"{service.url}/traced", json={}, headers=parent).json()


def named(spans, name):
    return [span for span in spans[0] if span.name == name]


def attributes(span):
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


def test_a_clients_trace_is_continued(spans):
    first = named(spans, "POST /locate")[0]
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (TRACE, PARENT)
    told = attributes(first)
    assert (told["http.request.method"], told["http.response.status_code"]) == ("POST", 200)


def test_a_request_without_a_trace_begins_one_and_tells_its_status(spans):
    second = named(spans, "POST /locate")[1]
    assert second.parent_span_id == b""
    assert attributes(second)["http.response.status_code"] == 422


def test_queue_and_model_are_spans_inside_the_requests(spans):
    for root in (*named(spans, "POST /locate"), *named(spans, "POST /slow")):
        inner = [span for span in spans[0] if span.parent_span_id == root.span_id]
        queue, predict = sorted(inner, key=lambda span: span.name, reverse=True)
        assert (queue.name, predict.name) == ("queue", "predict")
        assert (
            root.start_time_unix_nano <= queue.start_time_unix_nano + 2_000_000
        )  # the loop's clock has 1 ms
        assert queue.end_time_unix_nano == predict.start_time_unix_nano
        assert predict.end_time_unix_nano <= root.end_time_unix_nano


def test_a_pipeline_has_the_spans_of_its_first_stage(spans):
    (root,) = named(spans, "POST /stages")
    inner = [span.name for span in spans[0] if span.parent_span_id == root.span_id]
    assert sorted(inner) == ["predict", "queue"]


def test_every_choice_has_spans_of_its_own(spans):
    root = named(spans, "POST /v1/chat/completions")[0]
    inner = [span.name for span in spans[0] if span.parent_span_id == root.span_id]
    assert sorted(inner) == ["predict", "predict", "queue", "queue"]


def test_hooks_may_go_on_with_the_trace(spans):
    _, trace, span, _ = spans[1]["traceparent"].split("-")
    root = named(spans, "POST /traced")[0]
    assert (trace, span) == (TRACE, root.span_id.hex())
