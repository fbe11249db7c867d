"""The published description against a real server over HTTP, by schemathesis.

Requests are drawn from the description alone: no 5xx, every status, media type and body as
described. The gate runs a short form; ``tox -e fuzz`` sets ``FLOWKIT_FUZZ_EXAMPLES``.
"""

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from flowkit.server.openapi import SESSIONS, UNVERSIONED, document
from flowkit.testing import Platform

EXAMPLES = int(os.environ.get("FLOWKIT_FUZZ_EXAMPLES", "3"))
CHECKS = (
    checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)
CAMPAIGN = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def below_the_account():
    """The operations of the description below version and account."""
    described = document("test")
    outside = {*UNVERSIONED, *SESSIONS}
    paths = {path: item for path, item in described["paths"].items() if path not in outside}
    schema = schemathesis.openapi.from_dict({**described, "paths": paths})
    for found in schema.get_all_operations():
        operation = found.ok()
        yield pytest.param(operation, id=operation.label)


@pytest.fixture(scope="module")
def door():
    """A real server, and something there for requests to meet."""
    with Platform() as opened:
        flow = opened.api.flow.create({"path": "/test/a"})
        opened.api.drop(flow["id"]).create({"elems": {"temp": 1}})
        yield f"{opened.serve()}/v4.0/{opened.account}", opened.api.creds.token


@pytest.mark.slow
@pytest.mark.timeout(60 + EXAMPLES)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=str)
@pytest.mark.parametrize("operation", list(below_the_account()))
def test_answers_are_as_described(door, operation, mode):
    """What fits the description and what does not is answered as the description says."""
    url, secret = door
    answers = []

    @CAMPAIGN
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        response = case.call(base_url=url, headers={"X-Auth-Token": secret}, timeout=10)
        case.validate_response(response, checks=CHECKS)
        answers.append(response.status_code)

    ask()
    assert answers
