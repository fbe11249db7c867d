"""Every refusal of every kind has one shape."""

import json

import pytest

from flowkit.protocol.envelope import NOT_LOCATED, Request

OBJECT = "f" + "0" * 24

REFUSALS = [
    (400, "POST", "/flow", b"not json", {}),
    (400, "POST", "/flow", b"{}", {}),
    (400, "GET", "/flow?limit=-1", b"", {}),
    (400, "GET", "/flow?filter=x%20%3E", b"", {}),
    (400, "POST", "/flow", b"{}", {"x-request-id": ""}),
    (400, "POST", "/flow", b"{}", {"x-http-method-override": "PATCH"}),
    (403, "GET", "/flow", b"", {"x-auth-token": "wrong"}),
    (403, "GET", "/flow", b"", {"x-auth-account": "bob"}),
    (403, "POST", "/flow", b'{"path": "/bob/x"}', {}),
    (403, "POST", "/identity", b"{}", {}),
    (404, "GET", "/nonsense", b"", {}),
    (404, "GET", f"/flow/{OBJECT}", b"", {}),
    (404, "POST", f"/drop/{OBJECT}", b'{"elems": {}}', {}),
    (404, "OPTIONS", "/nonsense", b"", {}),
    (405, "PATCH", "/flow", b"", {}),
    (413, "POST", "/flow", b" " * 1_048_577, {}),
]


@pytest.mark.parametrize(
    ("status", "method", "target", "body", "headers"),
    REFUSALS,
    ids=[f"{case[0]} {case[1]} {case[2]}" for case in REFUSALS],
)
def test_a_refusal_is_an_envelope_with_an_empty_body(nora, status, method, target, body, headers):
    """``head.status`` is the status, ``ok`` is false, each error one sentence, the body ``{}``."""
    request = Request.from_target(
        method, f"/v4.0/nora{target}", {"x-auth-token": nora.token, **headers}, body
    )

    answer = nora.app.handle(request)

    envelope = json.loads(answer.body)
    assert answer.status == status
    assert answer.headers["content-type"].startswith("application/json")
    assert envelope["body"] == {}
    head = envelope["head"]
    assert (head["status"], head["ok"], head["references"]) == (status, False, {})
    assert head["messages"] == []
    assert len(head["errors"]) >= 1
    for sentence in head["errors"]:
        assert sentence == sentence.strip()
        assert "\n" not in sentence
        assert "Traceback" not in sentence
    if status == 404:
        assert head["errors"][0] == NOT_LOCATED
