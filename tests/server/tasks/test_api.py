"""API tasks against a real server: what the script asks for, and what it makes of the answer."""

from __future__ import annotations

import pytest

from tests.server.tasks.waiting import ran

pytest.importorskip("quickjs", reason="scripts need the extra: pip install 'flowkit[js]'")

CALLBACK = "function (t) { return JSON.parse(t).map(function (r) { return {elems: {t: r}}; }); }"


def done(nora, request, callback=CALLBACK):
    """A task that has run once, its drops and its report."""
    sink = nora.flow("/nora/in")
    js = f"new Task({{request: {request}, callback: {callback}}})"
    made = nora.ask("POST", "/api-task", {"js": js, "destination": "/nora/in"})
    assert made.status == 201, made.errors
    task = ran(nora, "api-task", made.body["id"], 1)
    (report,) = nora.drops({"id": task["reportFlowId"]})
    return task, nora.elems(sink, "t"), report["elems"]


def test_an_answer_becomes_drops(nora, elsewhere):
    """The callback gets its text; the report says how many there were."""
    elsewhere.body = b"[1, 2, 3]"
    task, found, report = done(nora, f"{{uri: '{elsewhere.url}/r.json', method: 'GET'}}")

    assert found == [1, 2, 3]
    assert task["status"] == "OK"
    assert (report["status"], report["dropsCreated"]) == ("OK", 3)
    assert elsewhere.asked[0][:2] == ("GET", "/r.json")


def test_a_request_has_method_headers_and_body(nora, elsewhere):
    """As the script says."""
    elsewhere.body = b"[]"
    request = f"{{uri: '{elsewhere.url}', method: 'post', headers: {{'X-A': 'b'}}, body: {{q: 1}}}}"
    task, found, _ = done(nora, request)

    method, _, headers, body = elsewhere.asked[0]
    assert (method, headers["x-a"], body) == ("POST", "b", b'{"q": 1}')
    assert (task["status"], found) == ("NO_NEW_DATA", [])


@pytest.mark.parametrize(
    ("callback", "body", "status", "said"),
    [
        (CALLBACK, b"no json", 200, "SyntaxError"),
        (CALLBACK, b"[1]", 500, "the server answered 500"),
        ("function (t) { return 5; }", b"", 200, "something that is no Drop"),
        ("function (t) { return [{elems: 5}]; }", b"", 200, "1 of 1 Drops cannot be stored: elems"),
        ("5", b"", 200, "no Task with a request and a callback"),
    ],
)
def test_what_goes_wrong_is_in_the_report(nora, elsewhere, callback, body, status, said):
    """In one sentence, and nothing is written."""
    elsewhere.body, elsewhere.status = body, status
    task, found, report = done(nora, f"{{uri: '{elsewhere.url}'}}", callback)

    assert (task["status"], found) == ("ERROR", [])
    assert said in report["error"]


def test_a_private_address_is_not_reached(nora):
    """Unless the operator allows it by name."""
    task, _, report = done(nora, "{uri: 'http://10.0.0.1/'}")

    assert task["status"] == "ERROR"
    assert "not on the public internet" in report["error"]


def test_some_drops_that_cannot_be_stored_do_not_keep_the_others_back(nora, elsewhere):
    """The report says how many and why."""
    elsewhere.body = b"[1, 2]"
    callback = "function (t) { return [{elems: {t: 1}}, {elems: []}, {elems: {t: 2}}]; }"
    task, found, report = done(nora, f"{{uri: '{elsewhere.url}'}}", callback)

    assert (task["status"], found) == ("OK", [1, 2])
    assert report["error"].startswith("1 of 3 Drops cannot be stored: elems:")
