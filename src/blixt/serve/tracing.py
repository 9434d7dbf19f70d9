"""OpenTelemetry traces: one span for each request, and inside it the wait in the queue and the model's time.

Off unless `Web(tracing=True)`. A client's W3C `traceparent` is continued, and hooks may continue ours: it is
in `context["traceparent"]` for an API with `context_fields=["traceparent"]`. Where spans go is said by the
standard environment variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, ...), unless the process
has set up a tracer provider of its own before.
"""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from blixt.serve.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

Headers = Iterable[tuple[bytes, bytes]]
CARRIED = frozenset({b"traceparent", b"tracestate"})


class Tracing:
    """Makes and exports spans; lives as long as the app's lifespan.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """

    def __init__(self) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError:
            raise ConfigError("Tracing needs OpenTelemetry: pip install 'blixt[otel]'.") from None
        given = trace.get_tracer_provider()
        self._own = None if isinstance(given, TracerProvider) else _provider()
        self._tracer: Tracer = (self._own or given).get_tracer("blixt.serve")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, method: str, path: str, headers: Headers) -> "Trace":
        """The span of a request, as a child of the client's if it sent one."""
        from opentelemetry.trace import SpanKind

        carrier = {name.decode(): value.decode("latin-1") for name, value in headers if name in CARRIED}
        parent = self._propagator.extract(carrier)
        attributes = {"http.request.method": method, "url.path": path, "http.route": path}
        span = self._tracer.start_span(f"{method} {path}", parent, SpanKind.SERVER, attributes)
        return Trace(self._tracer, span)

    def close(self) -> None:
        """Export what is left."""
        if self._own is not None:
            self._own.shutdown()


class Trace:
    """One request's span while it is answered."""

    def __init__(self, tracer: "Tracer", span: Any) -> None:
        self._tracer = tracer
        self._span = span
        self._tickets: list[Any] = []

    @property
    def traceparent(self) -> str:
        """Our span, for whoever goes on with the trace."""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def follow(self, tickets: Iterable[Any]) -> None:
        """The hub's tickets: when each was admitted and sent will be told as spans."""
        self._tickets += tickets

    def end(self, status: int) -> None:
        """The request is answered, or its client has gone (status 0)."""
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        now_ns = time.time_ns()
        # A process that is held up between its two looks at the clocks finds too little: the most is right.
        offset_ns = max(time.time_ns() - time.monotonic_ns() for _ in range(3))
        context = set_span_in_context(self._span)
        for ticket in self._tickets:
            admitted_ns = int(ticket.admitted_at * 1e9) + offset_ns
            sent_ns = int(ticket.sent_at * 1e9) + offset_ns if ticket.sent_at else now_ns
            self._tracer.start_span("queue", context, start_time=admitted_ns).end(sent_ns)
            if ticket.sent_at:
                self._tracer.start_span("predict", context, start_time=sent_ns).end(now_ns)
        if status:
            self._span.set_attribute("http.response.status_code", status)
        else:
            self._span.add_event("client left")
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(now_ns)


def _provider() -> "TracerProvider":
    import os

    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "blixt-serve"}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
