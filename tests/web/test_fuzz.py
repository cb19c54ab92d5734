"""The interface, called as its own OpenAPI document says it can be, and as it says it cannot."""

import time

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS, load_all_checks

load_all_checks()
HONEST = [
    CHECKS.get_one(name)
    for name in (
        "not_a_server_error", "status_code_conformance", "content_type_conformance",
        "response_schema_conformance",
    )
]  # fmt: skip


def fuzz(server, seconds: float, examples: int) -> int:
    """Calls every operation; returns how many calls were made."""
    schema = schemathesis.openapi.from_url(f"{server.url}/api/openapi.json")
    calls, end = 0, time.monotonic() + seconds
    for found in schema.get_all_operations():

        @settings(
            max_examples=examples, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def call(case):
            nonlocal calls
            if time.monotonic() < end:
                calls += 1
                case.call_and_validate(checks=HONEST, timeout=60)

        operation = found.ok()

        given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE))(call)()
        if operation.path_parameters or operation.query or operation.body:  # else nothing can be wrong
            given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))(call)()
    return calls


def test_no_call_makes_the_server_fail(server):
    assert fuzz(server, seconds=30, examples=15) > 60
    with server.client() as client:
        assert client.get("/api/jobs").status_code == 200


@pytest.mark.slow
def test_no_call_of_very_many_makes_the_server_fail(server):
    assert fuzz(server, seconds=400, examples=400) > 1000
