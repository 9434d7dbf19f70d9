"""Requests made up from the server's own OpenAPI schema, right and wrong ones, by schemathesis."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
FEW = settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


def check_all(service, wanted, mode):
    """Send requests made up for every operation whose path begins with `wanted`."""
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    seen = []
    for result in schema.get_all_operations():
        operation = result.ok()
        if not operation.path.startswith(wanted) or operation.path == "/slow":
            continue
        if mode is GenerationMode.NEGATIVE and operation.method == "get":
            continue  # nothing of theirs can be wrong
        seen.append(operation.path)

        @given(case=operation.as_strategy(generation_mode=mode))
        @FEW
        def check(case):
            case.headers.pop("x-timeout-s", None)  # a client in a hurry gets its 504, rightly
            case.call_and_validate(checks=CHECKS, timeout=60)

        check()
    return seen


MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]


@pytest.mark.parametrize("mode", MODES)
def test_no_request_breaks_a_route_and_every_answer_is_as_documented(web_service, mode):
    seen = check_all(web_service, "/", mode)
    assert {"/count", "/big", "/locate", "/rot13", "/guarded"} <= set(seen)


@pytest.mark.parametrize("mode", MODES)
def test_no_request_breaks_openais_routes_and_every_answer_is_as_documented(openai_service, mode):
    seen = check_all(openai_service, "/v1/", mode)
    assert {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"} <= set(seen)
