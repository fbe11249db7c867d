"""The application as a whole: what holds for every request."""

import gzip
import json
import logging
import threading
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowkit import limits
from flowkit.errors import TooManyRequests
from flowkit.green import spawn
from flowkit.protocol.envelope import NOT_LOCATED, Request
from flowkit.server import call
from flowkit.server.auth import NO_CREDENTIAL
from flowkit.server.bodies import read_json
from flowkit.server.routes import ROUTES
from tests.server.visitor import Visitor, visiting

PREFLIGHT = {"origin": "https://example.org", "access-control-request-method": "MGET"}


@pytest.fixture
def flow(nora):
    """A flow of nora's."""
    return nora.flow("/nora/x")


# Addresses


NOWHERE = [
    *("", "/", "/v4.0", "/v4.0/nora", "/v4.0/nora/"),
    *("/4.0/nora/flow", "/v4/nora/flow", "/vx.0/nora/flow"),
    *(f"/v4.0/nora/{route}" for route in ("tracks", "token/a/b", "tokens/", "x")),
    *("/v4.0/nora/flow/a/b/c", "/v4.0/nora/batch/x", "/v4.0/nora/statistics"),
]


@pytest.mark.parametrize("target", NOWHERE)
def test_an_unknown_address_is_404_with_the_known_words(nora, target):
    """Also for the resources that come later, and without a token."""
    for headers in ({}, {"x-auth-token": nora.token}):
        answer = nora.app.handle(Request.from_target("GET", target, headers))
        assert answer.status == 404
        assert json.loads(answer.body)["head"]["errors"] == [NOT_LOCATED]


def test_a_wrong_method_is_405_and_the_right_ones_are_named(nora, flow):
    """Known address, unknown method."""
    for method, target in [("DELETE", "/flow"), ("POST", f"/flow/{flow['id']}"), ("GET", "/batch")]:
        assert nora.ask(method, target).status == 405
    asked = nora.ask("PATCH", "/flow")
    assert asked.errors == ["PATCH is not a method of this address, it has GET, MGET, POST, MPUT"]
    assert asked.response.headers["allow"] == "GET, MGET, POST, MPUT, OPTIONS"


@pytest.mark.parametrize("version", ["v0.1", "v4.0", "v5.12", "v0.0"])
def test_every_version_and_trailing_slashes_are_accepted(nora, version, flow):
    """Any ``/v<digits>.<digits>/`` (0.2); slashes after the resource do not count (3.2)."""
    asked = nora.as_version(version).ask("GET", "/flow///")

    assert asked.body == [flow]


# Credentials


def test_without_the_right_token_everything_is_403(nora, bob, flow):
    """Missing, wrong or of another account: one status, one sentence, no hint which."""
    for token in (None, "", "wrong", bob.token, nora.token.swapcase(), nora.token + "\udc80"):
        stranger = Visitor(nora.app, nora.clock, "nora", token)
        for method, target, body in [
            ("GET", "/flow", b""),
            ("GET", f"/flow/{flow['id']}", b""),
            ("POST", "/flow", {"path": "/nora/y"}),
            ("POST", "/flow", b"not json"),
            ("POST", "/batch", []),
        ]:
            refused = stranger.ask(method, target, body)
            assert (refused.status, refused.errors) == (403, [NO_CREDENTIAL])
    assert nora.ask("GET", "/flow").body == [flow]


def test_a_large_body_is_not_read_for_just_anybody(nora, flow, monkeypatch):
    """Without a good token it is 403 before anything is parsed; with one the fault is told."""
    read = []

    def reading(body, **how):
        read.append(body)
        return read_json(body, **how)

    monkeypatch.setattr(call, "read_json", reading)
    body = b"[" * limits.body_aside_bytes_min
    target = f"/drop/{flow['id']}"
    stranger = replace(nora, token="wrong")

    assert stranger.ask("POST", target, body).status == 403
    assert stranger.ask("POST", target, b"[" + b"{}," * limits.body_aside_bytes_min).status == 403
    assert read == []
    assert nora.ask("POST", target, body).errors == ["body: is nested more than 100 levels deep"]


def test_the_account_header_must_agree_with_the_address(nora):
    """403 if ``X-Auth-Account`` names another account (3.2)."""
    assert nora.ask("GET", "/flow", headers={"x-auth-account": "nora"}).status == 200
    refused = nora.ask("GET", "/flow", headers={"x-auth-account": "bob"})
    assert refused.status == 403
    assert refused.errors == ["X-Auth-Account: is not the account in the address"]


def test_no_answer_holds_a_token(nora, bob):
    """Not the own one and not one that was tried."""
    for answer in (
        nora.ask("GET", "/identity"),
        nora.ask("GET", "/flow?only=masterToken&refs=1"),
        Visitor(nora.app, nora.clock, "nora", bob.token).ask("GET", "/flow"),
    ):
        assert nora.token not in answer.response.body.decode()
        assert bob.token not in answer.response.body.decode()


# CORS


def test_a_preflight_is_answered_without_a_token(nora):
    """OPTIONS of any known address names the methods and headers; every answer has the origin."""
    answer = nora.app.handle(Request.from_target("OPTIONS", "/v4.0/nora/flow", PREFLIGHT))

    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "GET, POST, PUT, DELETE, MGET, MPUT"
    for name in ("X-Auth-Token", "X-Auth-Account", "X-Request-Id", "X-HTTP-Method-Override"):
        assert name in answer.headers["access-control-allow-headers"]
    assert answer.headers["allow"] == "GET, MGET, POST, MPUT, OPTIONS"
    unknown = nora.app.handle(Request.from_target("OPTIONS", "/v4.0/nora/nonsense", PREFLIGHT))
    for other in (unknown, nora.ask("GET", "/flow").response, nora.ask("GET", "/x").response):
        assert other.headers["access-control-allow-origin"] == "*"
    assert unknown.status == 404


# The envelope


def test_pretty_indents_every_kind_of_answer(nora):
    """Reads, writes and refusals."""
    for method, target, body in [
        ("GET", "/flow?pretty=true", b""),
        ("POST", "/flow?pretty=1", {"path": "/nora/x"}),
        ("POST", "/flow?pretty=True", {}),
    ]:
        assert b'\n  "head": {' in nora.ask(method, target, body).response.body
    assert b'\n      "id": ' in nora.ask("GET", "/flow?pretty=1").response.body
    assert b"\n" not in nora.ask("GET", "/flow?pretty=0").response.body
    assert b"\n" not in nora.ask("GET", "/flow?pretty=").response.body


def test_a_body_is_read_whatever_its_type_says(nora):
    """The content type is not looked at (3.2)."""
    for at, kind in enumerate(("text/plain", "application/x-www-form-urlencoded", "")):
        made = nora.ask("POST", "/flow", {"path": f"/nora/{at}"}, headers={"content-type": kind})
        assert made.status == 201


# Overrides


def test_a_post_may_stand_for_mget_and_mput(nora, flow):
    """``X-HTTP-Method-Override``, in any case (3.5)."""
    many = nora.ask("POST", "/flow", [flow["id"]], headers={"x-http-method-override": "mget"})
    changed = nora.ask(
        "POST", "/flow", {flow["id"]: {"capacity": 5}}, headers={"x-http-method-override": "MPUT"}
    )

    assert many.body == {flow["id"]: flow}
    assert changed.body[flow["id"]]["capacity"] == 5


def test_a_post_may_stand_for_a_find(nora, flow):
    """The body is an object of query parameters, for filters that do not fit an address."""
    drops = [nora.drop(flow, n=n) for n in range(3)]
    long = " || ".join(f"n == {n}" for n in (1, *range(10, 900)))
    override = {"x-http-method-override": "GET"}
    target = f"/drop/{flow['id']}"

    assert nora.ask("POST", target, {"filter": long}, headers=override).body == [drops[1]]
    assert nora.ask("POST", f"{target}?limit=1", b"", headers=override).body == [drops[2]]
    assert nora.ask("POST", f"{target}?limit=1", {"limit": 2}, headers=override).body == [
        drops[2],
        drops[1],
    ]
    assert nora.ask("POST", "/flow", {"only": ["path"]}, headers=override).body == [
        {"id": flow["id"], "path": "/nora/x"}
    ]
    assert nora.ask("POST", "/drop", {"path": "/nora/x", "limit": 0}, headers=override).body == []
    assert nora.ask("POST", target, [], headers=override).errors == ["body: must be an object"]
    assert nora.ask("POST", target, {"limit": -1}, headers=override).status == 400


def test_other_overrides_are_refused_and_only_post_is_overridden(nora, flow):
    """400 for a POST; on other methods the header means nothing."""
    refused = nora.ask("POST", "/flow", {}, headers={"x-http-method-override": "DELETE"})

    assert refused.errors == ["X-HTTP-Method-Override: must be one of GET, MGET, MPUT"]
    assert nora.ask("GET", "/flow", headers={"x-http-method-override": "MPUT"}).body == [flow]


# Repeated writes


def test_a_repeated_request_is_answered_again_and_done_once(nora, flow):
    """The same id and the same request: the same bytes, one drop (3.2)."""
    target = f"/drop/{flow['id']}?positions=1"
    named = {"x-request-id": "5" * 32}

    first = nora.ask("POST", target, {"elems": {"n": 1}}, headers=named)
    again = nora.ask("POST", target, {"elems": {"n": 1}}, headers=named)

    assert first.response.headers["x-request-replay"] == "1"
    assert again.response.status == 201
    assert again.response.body == first.response.body
    assert len(nora.ask("GET", f"/drop/{flow['id']}").body) == 1


def test_a_repeated_delete_is_no_404(nora, flow):
    """What succeeded the first time succeeds again."""
    named = {"x-request-id": "a-b"}

    for _ in range(2):
        assert nora.ask("DELETE", f"/flow/{flow['id']}", headers=named).status == 200
    assert nora.ask("DELETE", f"/flow/{flow['id']}", headers={"x-request-id": "c"}).status == 404


def test_one_id_for_two_requests_mixes_nothing_up(nora, bob, flow):
    """The id counts together with the request and the account."""
    named = {"x-request-id": "same"}

    for n in range(2):
        made = nora.ask("POST", f"/drop/{flow['id']}", {"elems": {"n": n}}, headers=named)
        assert made.body["elems"] == {"n": n}
    assert nora.ask("POST", "/flow", {"path": "/nora/y"}, headers=named).status == 201
    assert bob.ask("POST", "/flow", {"path": "/bob/y"}, headers=named).status == 201


def test_a_refusal_is_not_kept(nora):
    """What was refused is tried again, so that it may succeed once its reason is gone."""
    named = {"x-request-id": "r"}
    body = {"path": "/nora/x", "elems": {}}

    assert nora.ask("POST", "/drop", body, headers=named).status == 404
    nora.flow("/nora/x")
    assert nora.ask("POST", "/drop", body, headers=named).status == 201


def test_answers_are_kept_for_ten_minutes(nora, flow):
    """After the window the request is a new one."""
    named = {"x-request-id": "r"}
    for wait_s in (0, limits.replay_window_s - 1, limits.replay_window_s + 1):
        nora.clock.now_ms += int(wait_s * 1000)
        nora.ask("POST", f"/drop/{flow['id']}", {"elems": {}}, headers=named)

    assert len(nora.ask("GET", f"/drop/{flow['id']}").body) == 2


@pytest.mark.parametrize("name", ["", "a b", "é", "x" * 129, "a\n"])
def test_a_request_id_has_a_form(nora, name):
    """1 to 128 visible ASCII characters; nothing is done otherwise."""
    refused = nora.ask("POST", "/flow", {"path": "/nora/x"}, headers={"x-request-id": name})

    assert refused.status == 400
    assert refused.errors[0].startswith("X-Request-Id: ")
    assert nora.ask("GET", "/flow").body == []
    stranger = Visitor(nora.app, nora.clock, "nora", "wrong")
    assert stranger.ask("POST", "/flow", {}, headers={"x-request-id": name}).status == 403


def test_the_token_is_looked_at_before_an_answer_is_repeated(nora, flow):
    """A stranger with a request id gets nothing."""
    named = {"x-request-id": "r"}
    nora.ask("POST", f"/drop/{flow['id']}", {"elems": {}}, headers=named)

    stranger = Visitor(nora.app, nora.clock, "nora", "wrong")

    assert stranger.ask("POST", f"/drop/{flow['id']}", {"elems": {}}, headers=named).status == 403


# Batches


def test_a_batch_answers_an_envelope_for_each_entry(nora, bob, flow):
    """In the same order, each on its own (3.5)."""
    drop = nora.drop(flow, n=1)
    far = "location WITHIN 5 KM OF [ZIP=00001]"
    narrow = {"filter": "n == 1", "colour": 1}
    entries = [
        {"method": "GET", "path": "/flow", "params": {"limit": 1}},
        {"method": "GET", "path": f"drop/{flow['id']}", "params": narrow},
        {"method": "MGET", "path": f"/drop/{flow['id']}/", "body": [drop["id"]]},
        {"method": "MGET", "path": "/drop", "body": [{"flowId": flow["id"]}]},
        {"method": "GET", "path": "/flow/nonsense"},
        {"method": "POST", "path": "/flow", "body": {"path": "/nora/y"}},
        {"method": "GET", "path": "/drop", "params": {"path": "/nora/x", "positions": True}},
        {"method": "GET", "path": "/flow", "params": {"limit": -1}},
        {"method": "MGET", "path": "/flow", "body": 5},
        {"method": "GET", "path": f"/drop/{flow['id']}", "params": {"filter": far}},
        {"method": "GET", "path": "/nonsense"},
        5,
        {},
        {"method": "GET", "path": "/flow?limit=1"},
        {"method": "GET", "path": "/flow", "query": {"limit": 0}},
    ]

    asked = nora.ask("POST", "/batch", entries)

    statuses = [envelope["head"]["status"] for envelope in asked.body]
    assert asked.status == 200
    assert statuses == [200, 200, 200, 200, 404, 400, 200, 400, 400, 400, 404] + [400] * 3 + [200]
    assert asked.body[0]["body"] == [flow]
    assert asked.body[1]["body"] == [drop]
    assert "colour" in asked.body[1]["head"]["messages"][1]
    assert asked.body[2]["body"] == {drop["id"]: drop}
    assert asked.body[6]["head"]["position"].startswith("p1.")
    assert asked.body[12]["head"]["errors"] == [
        "method: must be GET or MGET",
        "path: must be the address below the account, such as /flow",
    ]
    assert asked.body[13]["head"]["errors"] == [
        "path: ends before the question mark, parameters stand in params"
    ]
    assert asked.body[14]["head"]["messages"][1:] == ["query: is not a member here and was ignored"]
    assert nora.ask("GET", "/flow").body == [flow], "nothing was written"


def test_a_batch_has_a_bound_and_a_form(nora):
    """At most 500 entries, in an array."""
    entry = {"method": "GET", "path": "/flow"}

    assert len(nora.ask("POST", "/batch", [entry] * limits.batch_requests_max).body) == 500
    assert nora.ask("POST", "/batch", [entry] * 501).errors == [
        "body: has 501 entries, the limit is 500"
    ]
    assert nora.ask("POST", "/batch", {}).status == 400


# Bounds


def test_a_body_has_a_bound_and_an_array_a_larger_one(nora, flow):
    """1 MiB, 16 MiB for an array create; 413 beyond (12)."""
    text = "x" * 600_000
    target = f"/drop/{flow['id']}"

    assert nora.ask("POST", target, {"elems": {"t": text}}).status == 201
    assert nora.ask("POST", target, {"elems": {"t": text + text}}).status == 413
    assert nora.ask("POST", target, [{"elems": {"t": text}}] * 3).status == 201
    assert nora.ask("POST", target, [{"elems": {"t": text}}] * 28).status == 413
    assert nora.ask("MGET", "/flow", [text, text]).status == 413
    assert nora.ask("PUT", f"/flow/{flow['id']}", {"description": text + text}).errors == [
        "body: is larger than 1048576 bytes"
    ]
    override = {"x-http-method-override": "GET"}
    assert nora.ask("POST", target, {"filter": text + text}, headers=override).status == 413


def test_an_answer_has_a_bound(tmp_path):
    """400 says what to do instead (3.6); in a batch only the entry that does not fit."""
    with visiting(tmp_path / "data", answer_bytes_max=40_000) as (nora, _):
        flow = nora.flow("/nora/x")
        for n in range(10):
            nora.drop(flow, text="x" * 5000, n=n)
        target = f"/drop/{flow['id']}"

        refused = nora.ask("GET", target)
        assert refused.status == 400
        assert refused.errors[0].endswith("use only or limit")
        assert len(nora.ask("GET", f"{target}?limit=5").body) == 5
        reads = [{"method": "GET", "path": target, "params": {"limit": 3}}] * 4
        batch = nora.ask("POST", "/batch", reads)
        assert [entry["head"]["status"] for entry in batch.body] == [200, 200, 400, 400]
        reads[1:1] = [{"method": "GET", "path": target}]
        batch = nora.ask("POST", "/batch", reads)
        assert [entry["head"]["status"] for entry in batch.body] == [200, 400, 200, 400, 400]


def test_what_is_not_shown_does_not_count_against_the_bound(tmp_path):
    """``only`` is a way out of an answer that is too large, with a remainder in Python as well."""
    with visiting(tmp_path / "data", answer_bytes_max=20_000) as (nora, _):
        flow = nora.flow("/nora/x", description="y" * 15_000)
        nora.flow("/nora/z", description="y" * 15_000)
        for n in range(10):
            nora.drop(flow, text="x" * 5000, n=n)

        for asked in (
            "only=n",
            "only=n&refs=1",
            "only=n&filter=n+%3D~+%2F%5Ba%5D%2F+%7C%7C+n+>+-1",
        ):
            found = nora.ask("GET", f"/drop/{flow['id']}?{asked}")
            assert [drop["elems"]["n"] for drop in found.body] == [*range(9, -1, -1)]
        assert nora.ask("GET", "/flow").status == 400
        assert len(nora.ask("GET", "/flow?only=path").body) == 2


def test_many_objects_by_id_have_the_same_bound(tmp_path):
    """Drops and flows by id, and finds in several flows, are counted before they are gathered."""
    with visiting(tmp_path / "data", answer_bytes_max=20_000) as (nora, _):
        flows = [nora.flow(f"/nora/{name}", description="y" * 8_000) for name in "abc"]
        drops = [nora.drop(flow, text="x" * 5000)["id"] for flow in flows[:1] * 4]
        for flow in flows[1:]:
            nora.drop(flow, text="x" * 15_000)
        ids = [flow["id"] for flow in flows]

        target = f"/drop/{ids[0]}"
        assert len(nora.ask("MGET", target, drops[:3]).body) == 3
        assert nora.ask("MGET", target, drops).errors[0].endswith("use only or limit")
        assert len(nora.ask("MGET", "/flow", ids[:2]).body) == 2
        assert nora.ask("MGET", "/flow", ids).status == 400
        assert nora.ask("MGET", "/drop", [{"flowId": ids[1]}]).status == 200
        refused = nora.ask("MGET", "/drop", [{"flowId": each} for each in ids])
        assert refused.errors == ["The answer is larger than 0 MiB: use only or limit"]
        assert nora.ask("POST", "/flow", {"path": "/nora/d"}).status == 201
        for n in range(10):
            assert nora.ask("PUT", f"{target}/{drops[0]}", {"fhash": str(n)}).status == 200


def test_a_compressed_body_is_the_shells_business(nora):
    """The application gets bodies as they were before compression; gzip bytes are not JSON."""
    packed = gzip.compress(b"{}")

    assert nora.ask("POST", "/flow", packed).errors[0].startswith("body: is not UTF-8")


# Faults of our own


def test_our_own_fault_is_a_500_with_a_request_id_and_no_traceback(nora, caplog):
    """One sentence; the reason stands in the log under the same id."""

    class Broken:
        def read(self, job, **how):
            raise RuntimeError("the secret reason")

        def write(self, job, **how):
            raise RuntimeError("the secret reason")

    nora.app.store, store = Broken(), nora.app.store
    with caplog.at_level(logging.ERROR):
        for headers in ({"x-request-id": "abc"}, {"x-request-id": "not\nvisible"}):
            failed = nora.ask("GET", "/flow", headers=headers)
            assert failed.status == 500
            assert len(failed.errors) == 1
            assert "secret" not in failed.response.body.decode()
            assert failed.errors[0].rsplit(" ", 1)[1] in caplog.text
    nora.app.store = store
    assert "the secret reason" in caplog.text
    assert "request abc GET flow failed" in caplog.text
    assert nora.token not in caplog.text


def test_a_refusal_may_say_when_to_come_back(nora):
    """``Retry-After`` in whole seconds, never 0."""

    class Busy:
        def read(self, job, **how):
            raise TooManyRequests("slow down", retry_after_s=0.2)

    nora.app.store, store = Busy(), nora.app.store
    answer = nora.ask("GET", "/flow")
    nora.app.store = store

    assert (answer.status, answer.errors) == (429, ["slow down"])
    assert answer.response.headers["retry-after"] == "1"


def test_a_closed_platform_says_so(nora):
    """503 with one sentence, to reads and writes."""
    nora.app.close()

    for method, body in [("GET", b""), ("POST", {"path": "/nora/x"})]:
        answer = nora.ask(method, "/flow", body)
        assert (answer.status, answer.errors) == (503, ["The store is closed"])


def test_many_threads_may_ask_at_once(nora):
    """Every request gets its own answer, and every write is there afterwards."""
    flow = nora.flow("/nora/x", capacity=10_000)
    wrong = []

    def work(worker):
        for n in range(20):
            made = nora.ask("POST", f"/drop/{flow['id']}", {"elems": {"w": worker, "n": n}})
            read = nora.ask("GET", f"/drop/{flow['id']}/{made.body['id']}")
            if read.body != made.body or read.body["elems"] != {"w": worker, "n": n}:
                wrong.append((worker, n))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert len(nora.ask("GET", f"/drop/{flow['id']}?limit=1000").body) == 160


def test_many_greenlets_may_ask_at_once(nora):
    """The same from green threads: nobody waits in the way of another for ever."""
    flow = nora.flow("/nora/x")

    def work(n):
        made = nora.ask("POST", f"/drop/{flow['id']}", {"elems": {"n": n}})
        return nora.ask("GET", f"/drop/{flow['id']}/{made.body['id']}").body["elems"]["n"]

    tasks = [spawn(work, n) for n in range(50)]

    assert [task.cell.get(timeout_s=30) for task in tasks] == list(range(50))


def test_postal_codes_are_looked_up_where_there_is_a_table(tmp_path):
    """With the table a find by ZIP works; without it, or with an unknown code, 400 (4.5.11)."""
    near = "?filter=location%20WITHIN%205%20KM%20OF%20%5BZIP="
    for lookup, status, sentence in [
        (True, 200, None),
        (False, 400, "filter: ZIP lookup is not available"),
    ]:
        with visiting(tmp_path / str(lookup), zip_lookup=lookup) as (nora, _):
            flow = nora.flow("/nora/x")
            place = {"lat": 40.69, "lon": -73.99}
            nora.ask("POST", f"/drop/{flow['id']}", {"elems": {}, "location": place})
            found = nora.ask("GET", f"/drop/{flow['id']}{near}11201%5D")
            unknown = nora.ask("GET", f"/drop/{flow['id']}{near}00001%5D")
            made = nora.ask(
                "POST", "/flow", {"path": "/nora/y", "filter": "l WITHIN 1 KM OF [ZIP=11201]"}
            )
            assert found.status == status
            assert made.status == (201 if lookup else 400)
            assert len(found.body) == lookup
            assert unknown.status == 400
            for refused in (found, made):
                assert refused.errors == ([] if sentence is None else [sentence])


def test_a_hard_pattern_cannot_hang_the_server(nora, flow):
    """Nested repeats are answered or refused at once."""
    for n in range(20):
        nora.drop(flow, t="a" * 2000 + "!", n=n)

    asked = nora.ask("GET", f"/drop/{flow['id']}?filter=t%20=~%20/%5E(a%2B)%2B%24/")

    assert asked.status in (200, 400)
    assert asked.body in ([], {})


# Anything at all


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A platform with some content, for requests that nobody would send."""
    with visiting(tmp_path_factory.mktemp("stage") / "data") as (nora, _):
        flow = nora.flow("/nora/x", filter="", capacity=50)
        drop = nora.drop(flow, a=1, b="x", c=[1, {"d": 2}])
        yield nora, flow["id"], drop["id"]


MEMBERS = (
    "path elems flowId params filter limit id type value fhash location capacity method body lat "
    "lon public"
).split()
WORDS = "flow drop identity batch FLOW DROP capacity elems id x track".split()
TEXTS = [
    *("1", "0", "true", "-1", "a == 1", "b =~ /x/", "EXISTS c.d", "elems.c", "creationDate", "asc"),
    *("/nora/x", "a,b", "NOT (", "l WITHIN 3 KM OF [ZIP=1]", "AGE < 5", "MATCHES /(((/", "id"),
    *("\ud800", "HAS date && c CONTAINS [1]", "a % 2 == 1", "elems.c.0 == 1", ".", "a..b"),
]
PARAMS = (
    "filter limit start skip sort order only refs hints path pretty explain positions forget"
).split()
METHODS = ["GET", "POST", "PUT", "DELETE", "MGET", "MPUT", "OPTIONS", "HEAD", "x"]
HEADERS = ["x-request-id", "x-http-method-override", "x-auth-account", "x-auth-token"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)
words = st.sampled_from([*WORDS, ""]) | st.text(max_size=4)
texts = st.text(max_size=12) | st.sampled_from(TEXTS)
names = st.sampled_from([*PARAMS, "\udc80"]) | st.text(max_size=4)
methods = st.sampled_from(METHODS)
headers = st.dictionaries(
    st.sampled_from(HEADERS),
    st.sampled_from(["GET", "MGET", "MPUT", "nora", "1", "", "\n", "\udc80"]),
    max_size=1,
)
bodies = json_values.map(lambda value: json.dumps(value).encode("utf-8", "replace"))


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    methods,
    st.lists(words, max_size=4),
    st.dictionaries(names, texts, max_size=3),
    headers,
    bodies | st.binary(max_size=20),
)
def test_any_request_is_answered_with_an_envelope_and_never_a_5xx(
    stage, method, segments, params, extra, body
):
    """Whatever is sent, the answer is an envelope below 500."""
    nora, flow_id, drop_id = stage
    known = {"FLOW": flow_id, "DROP": drop_id}
    path = tuple(known.get(word, word) for word in segments if word)
    request = Request(
        method, ("v0.1", "nora", *path), params, {"x-auth-token": nora.token, **extra}, body
    )

    answer = nora.app.handle(request)

    envelope = json.loads(answer.body)
    assert set(envelope) == {"head", "body"}
    assert {"status", "ok", "messages", "errors", "references"} <= set(envelope["head"])
    assert envelope["head"]["status"] == answer.status < 500
    assert envelope["head"]["ok"] is (answer.status < 300)
    assert bool(envelope["head"]["errors"]) is (answer.status >= 300)
    assert all(isinstance(sentence, str) and sentence for sentence in envelope["head"]["errors"])


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(ROUTES), st.dictionaries(names, texts, max_size=3), json_values)
def test_no_route_fails_whatever_its_body_and_parameters(stage, route, params, body):
    """Every route of the table with any JSON, on objects that exist."""
    nora, flow_id, drop_id = stage
    filled = {"{flow}": flow_id, "{member}": "elems", "{id}": drop_id}
    if not route.pattern.startswith("drop"):
        filled["{id}"] = flow_id
    if route.method == "DELETE" and route.pattern == "flow/{id}":
        filled["{id}"] = "f" + "0" * 24
    segments = tuple(filled.get(part, part) for part in route.pattern.split("/"))
    data = json.dumps(body).encode("utf-8", "replace")
    token = {"x-auth-token": nora.token}

    for version in ("v0.1", "v4.0"):
        answer = nora.app.handle(
            Request(route.method, (version, "nora", *segments), params, token, data)
        )
        assert answer.status < 500, answer.body
        assert json.loads(answer.body)["head"]["status"] == answer.status
