"""One exchange without a transport: what the application sees, and what may come back."""

import gzip
import json

import pytest
from echo_app import Echo

from flowkit.errors import TooManyRequests
from flowkit.protocol.envelope import Request
from flowkit.server.answers import refusal
from flowkit.server.exchange import Bounds, answer
from flowkit.server.message import Head


def ask(segments, headers=(), body=b"", bytes_max=1000):
    """The answer of the echo."""

    def make(plain_headers, plain):
        return Request("POST", segments, {"size": "8000"}, plain_headers, plain)

    return answer(Echo(), make, dict(headers), body, bytes_max)


def test_the_application_sees_the_plain_body():
    """Unpacked, and without the header that said how it was packed."""
    coded = {"content-encoding": "gzip", "x-a": "1"}
    said = json.loads(ask(("a",), coded, gzip.compress(b"abc")).body)

    assert said["body"] == "abc"
    assert said["headers"] == {"x-a": "1"}


@pytest.mark.parametrize("coding", ["identity", "IDENTITY", ""])
def test_a_body_that_is_not_packed_is_left_alone(coding):
    """Identity is the absence of a coding."""
    assert json.loads(ask(("a",), {"content-encoding": coding}, b"abc").body)["body"] == "abc"


@pytest.mark.parametrize(
    ("segments", "headers", "body", "status"),
    [
        (("fault",), {}, b"", 500),
        (("refuse",), {}, b"", 429),
        (("a",), {"content-encoding": "gzip"}, b"rubbish", 400),
        (("a",), {"content-encoding": "gzip"}, gzip.compress(bytes(1001)), 413),
        (("a",), {"content-encoding": "zstd"}, b"", 415),
    ],
    ids=["a fault", "a refusal", "no gzip", "gzip that opens to too much", "an unknown coding"],
)
def test_whatever_goes_wrong_is_an_answer(segments, headers, body, status):
    """Nothing is raised; the envelope says the status again."""
    response = ask(segments, headers, body)

    assert response.status == json.loads(response.body)["head"]["status"] == status


def test_a_refusal_says_when_to_come_back():
    """Retry-After is in whole seconds, never too few, and there only if it is known."""
    assert refusal(TooManyRequests("slow down", retry_after_s=2.4)).headers["retry-after"] == "3"
    assert "retry-after" not in refusal(TooManyRequests("slow down")).headers


@pytest.mark.parametrize(
    ("method", "target", "larger"),
    [
        ("POST", "/v4.0/nora/drop", True),
        ("POST", "/v4.0/nora/drop/f1?x=/y", True),
        ("POST", "/v0.1/nora/drop/", True),
        ("PUT", "/v4.0/nora/drop/f1/d1", False),
        ("MPUT", "/v4.0/nora/drop/f1", False),
        ("POST", "/v4.0/nora/flow", False),
        ("POST", "/drop", False),
        ("POST", "/v4.0/nora/drops", False),
        ("POST", "/v4.0/nora/flow?/drop", False),
    ],
)
def test_array_creates_have_the_larger_bound(method, target, larger):
    """By method and place; whether the body is an array is seen later."""
    head = Head(method, target, {}, 0, minor=1, keep_alive=True, expects_continue=False)

    assert Bounds(body_bytes_max=1, body_array_bytes_max=2).body_max(head) == (2 if larger else 1)
