"""What an operator sees of the application: ids, limits, health, figures, the log, the counts."""

import json
import logging
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flowkit import limits
from flowkit.errors import SettingsError
from flowkit.green import monotonic
from flowkit.protocol.envelope import Request
from flowkit.server.settings import Settings
from tests.server.visitor import Visitor, visiting

LIMITED = {"rate_limit_per_s": 0.001, "rate_limit_burst": 5}
"""Five requests, and no more while a test runs."""


def budget(asked):
    """What an answer says is left; None if it says nothing."""
    left = asked.response.headers.get("x-ratelimit-remaining")
    return None if left is None else int(left)


def own(app, method, target, **headers):
    """The answer of an address that belongs to no account."""
    return app.handle(Request.from_target(method, target, headers))


# Ids


@pytest.mark.parametrize("given", ["abc", None, "two words", "x" * 200])
def test_every_answer_has_an_id_the_callers_if_it_can_be_one(nora, given):
    """Good answers and refusals, with a token and without."""
    headers = {} if given is None else {"x-request-id": given}
    for visitor, target in ((nora, "/flow"), (nora, "/nothing"), (Visitor, "/flow")):
        who = visitor if visitor is nora else Visitor(nora.app, nora.clock, "nora", "wrong")
        answered = who.ask("GET", target, headers=headers).response.headers["x-request-id"]
        assert (answered == given) == (given == "abc")
        assert re.fullmatch(r"[!-~]{1,128}", answered)


def test_a_line_of_the_log_about_a_fault_carries_the_id(nora, caplog):
    """The 503 of a closed store; no token, no address as it was sent."""
    nora.app.store.close()
    failed = nora.ask("GET", "/flow?filter=a%20%3D%3D%201", headers={"x-request-id": "abc"})

    assert failed.status == 503
    assert caplog.messages == ["request abc GET flow: 503: The store is closed"]


# The limit


def test_without_a_limit_nothing_is_said_of_one(nora):
    """It is off by default."""
    answers = [nora.ask("GET", "/flow") for _ in range(50)]

    assert {answer.status for answer in answers} == {200}
    assert {budget(answer) for answer in answers} == {None}


def test_beyond_the_limit_it_is_429_with_everything_a_client_needs(tmp_path):
    """What is left counts down; then a sentence, Retry-After, and the same headers."""
    with visiting(tmp_path, **LIMITED) as (nora, _):
        assert [budget(nora.ask("GET", "/flow")) for _ in range(5)] == [4, 3, 2, 1, 0]
        refused = nora.ask("POST", "/flow", {"path": "/nora/x"})

    assert refused.status == 429
    assert refused.errors[0].startswith(
        "rate limit: 0.001 requests a second and 5 at once are allowed of one credential; "
    )
    headers = refused.response.headers
    assert 990 < int(headers["retry-after"]) <= 1000
    assert headers["x-ratelimit-limit"] == "5"
    assert headers["x-ratelimit-remaining"] == "0"
    assert 4990 < int(headers["x-ratelimit-reset"]) <= 5000
    assert headers["x-ratelimit-policy"] == "5;w=5000"
    assert "X-RateLimit-Remaining" in headers["access-control-expose-headers"]


def test_nobody_can_use_up_the_budget_of_another(tmp_path):
    """Wrong tokens for nora's account and bob's own requests leave hers alone."""
    with visiting(tmp_path, **LIMITED) as (nora, bob):
        for token in ("wrong", bob.token, None):
            stranger = Visitor(nora.app, nora.clock, "nora", token)
            for _ in range(10):
                assert stranger.ask("GET", "/flow").status in (403, 429)
        while bob.ask("GET", "/flow").status == 200:
            pass
        assert budget(nora.ask("GET", "/flow")) == 4


def test_a_flood_of_wrong_tokens_ends_in_429_for_that_address_alone(tmp_path):
    """Each wrong token counts, however many different ones; they hear nothing of a budget."""
    with visiting(tmp_path, **LIMITED) as (nora, _):

        def knock(peer, token):
            request = Request(
                "GET", ("v4.0", "nora", "flow"), {}, {"x-auth-token": token}, peer=peer
            )
            return nora.app.handle(request)

        statuses = [knock("192.0.2.1", f"wrong{n}").status for n in range(8)]
        elsewhere = knock("192.0.2.2", "wrong")
        good = knock("192.0.2.1", nora.token)

    assert statuses == [403] * 5 + [429] * 3
    assert elsewhere.status == 403
    assert "x-ratelimit-remaining" not in elsewhere.headers
    assert good.status == 200


def test_the_body_of_a_stranger_is_not_read(tmp_path):
    """Where a limit is on, a token that is not known is looked up before anything else."""
    with visiting(tmp_path, **LIMITED) as (nora, _):
        stranger = Visitor(nora.app, nora.clock, "nora", "wrong")
        refused = stranger.ask("POST", "/flow", b"\xff")
        known = nora.ask("POST", "/flow", b"\xff")

    assert (refused.status, known.status) == (403, 400)


# body, what it takes of a budget of 1000
COSTS = [
    ("GET", "/flow", b"", 1),
    ("POST", "/batch", [{"method": "GET", "path": "/flow"}] * 30, 31),
    ("POST", "/batch", [], 1),
    ("MGET", "/flow", ["f1"] * 250, 3),
    ("POST", "/batch", [{"method": "MGET", "path": "/flow", "body": ["f1"] * 250}] * 2, 7),
]


@pytest.mark.parametrize(("method", "target", "body", "cost"), COSTS)
def test_a_request_costs_what_it_is_worth(tmp_path, method, target, body, cost):
    """One; one more for each read of a batch, and for each hundred entries."""
    with visiting(tmp_path, rate_limit_per_s=0.001, rate_limit_burst=1000) as (nora, _):
        assert budget(nora.ask(method, target, body)) == 1000 - cost


def test_an_array_of_drops_costs_one_more_for_each_hundred(tmp_path):
    """Bulk is what devices are asked to do, so it is cheap, but not free."""
    with visiting(tmp_path, rate_limit_per_s=0.001, rate_limit_burst=1000) as (nora, _):
        flow = nora.flow("/nora/x")
        made = nora.ask("POST", f"/drop/{flow['id']}", [{"elems": {"n": n}} for n in range(250)])
    assert made.status == 201
    assert budget(made) == 1000 - 1 - 3


def test_a_batch_may_owe_and_is_waited_for(tmp_path):
    """What is larger than the burst passes once; then the debt is paid off."""
    with visiting(tmp_path, **LIMITED) as (nora, _):
        batch = nora.ask("POST", "/batch", [{"method": "GET", "path": "/flow"}] * 20)
        refused = nora.ask("GET", "/flow")

    assert (batch.status, budget(batch), refused.status) == (200, 0, 429)
    assert int(refused.response.headers["retry-after"]) > 16_000


def test_preflights_and_probes_need_no_budget(tmp_path):
    """They come without a credential."""
    with visiting(tmp_path, **LIMITED) as (nora, _):
        for _ in range(20):
            assert own(nora.app, "GET", "/health").status == 200
            assert own(nora.app, "OPTIONS", "/v4.0/nora/flow").status == 200
        assert budget(nora.ask("GET", "/flow")) == 4


# Probes and figures


def test_health_is_plain_text_and_needs_no_token(nora):
    """What probes expect: a status, and a word for people."""
    well = own(nora.app, "GET", "/health")
    assert (well.status, well.body) == (200, b"ok\n")
    assert well.headers["content-type"] == "text/plain; charset=utf-8"
    refused = own(nora.app, "POST", "/health")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, OPTIONS")


def test_health_of_a_store_that_is_gone_is_503(nora):
    """With the reason, which names no file."""
    nora.app.store.close()
    ill = own(nora.app, "GET", "/health")

    assert (ill.status, ill.body) == (503, b"not ok: the store cannot read\n")


def test_metrics_are_off_by_default(nora):
    """An address like any unknown one."""
    assert own(nora.app, "GET", "/metrics").status == 404


def test_metrics_tell_requests_and_commits_and_no_name(tmp_path):
    """By the rows of the URL table; nothing of accounts, paths, ids or tokens is on the page."""
    with visiting(tmp_path, metrics=True) as (nora, bob):
        flow = nora.flow("/nora/secretpath")
        drop = nora.drop(flow, secretelem=1)
        nora.ask("GET", f"/drop/{flow['id']}/{drop['id']}")
        bob.ask("GET", f"/flow/{flow['id']}")
        nora.ask("GET", "/no/such/address")
        own(nora.app, "FETCH", "/v4.0/nora/flow")
        page = own(nora.app, "GET", "/metrics")
        found = {
            (sample.name, *dict(sorted(sample.labels.items())).values()): sample.value
            for family in text_string_to_metric_families(page.body.decode())
            for sample in family.samples
        }

        def asked(route, method, status):
            return found.get(("flowkit_requests_total", method, route, status))

        assert asked("flow", "POST", "201") == 1
        assert asked("drop/{flow}", "POST", "201") == 1
        assert asked("drop/{flow}/{id}", "GET", "200") == 1
        assert asked("flow/{id}", "GET", "404") == 1
        assert asked("(none)", "GET", "404") == 1
        assert asked("(none)", "other", "405") == 1
        assert found["flowkit_commit_jobs_count",] >= 2
        # The word to store the counts of the last requests may not have been taken yet.
        assert found["flowkit_waiting_jobs", "writes"] in (0, 1)
        for word in ("nora", "bob", "secret", flow["id"], drop["id"], nora.token):
            assert word not in page.body.decode()


def test_what_the_limit_refuses_is_counted(tmp_path):
    """Credentials and strangers apart."""
    with visiting(tmp_path, **LIMITED) as (nora, _):
        stranger = Visitor(nora.app, nora.clock, "nora", "wrong")
        for _ in range(7):
            nora.ask("GET", "/flow")
            stranger.ask("GET", "/flow")
        counted = [
            nora.app.metrics.value("flowkit_rate_limited_total", who)
            for who in ("credential", "stranger")
        ]

    assert counted == [2, 2]


# The log of requests


@pytest.fixture
def lines(caplog):
    """The facts of the access log."""
    caplog.set_level(logging.INFO, "flowkit.access")
    return lambda: [record.facts for record in caplog.records if record.name == "flowkit.access"]


def test_the_access_log_tells_the_row_and_never_what_was_asked(tmp_path, lines):
    """Time aside: id, method, row, account, status, bytes, milliseconds. No filter, no token."""
    with visiting(tmp_path, access_log=True) as (nora, _):
        found = nora.ask("GET", "/flow?filter=path%3D%3D%27%2Fnora%2Fx%27")
        Visitor(nora.app, nora.clock, "nora", "wrong").ask("GET", "/flow")
    first, second = lines()

    assert first.pop("ms") >= 0
    assert first == {
        "request_id": found.response.headers["x-request-id"],
        "method": "GET",
        "route": "flow",
        "account": "nora",
        "status": 200,
        "bytes": len(found.response.body),
    }
    assert (second["account"], second["status"]) == (None, 403)
    assert "filter" not in json.dumps(first)


def test_the_access_log_is_off_by_default(nora, lines):
    """Nothing is written about who asked what."""
    nora.ask("GET", "/flow")

    assert lines() == []


# Statistics


def calls_of(nora, visitor, wanted):
    """Calls counted for an identity, once *wanted* of them are stored, or those after a while."""
    identity = nora.app.store.read(lambda reader: reader.account(visitor.account).identity_id)

    def counted(reader):
        return sum(reader.statistics("apiCallByIdentity", identity, 0, 10_000_000).values())

    deadline = monotonic() + limits.store_later_s + 5
    while (found := nora.app.store.read(counted)) < wanted and monotonic() < deadline:
        pass
    return found


def test_every_call_counts_once_for_its_identity(nora, bob):
    """Reads, writes, refusals, replays and batches, one each; nothing for a wrong token."""
    flow = nora.flow("/nora/x")
    nora.ask("GET", f"/flow/{flow['id']}")
    nora.ask("POST", "/flow", {"path": "/nora/x"})
    nora.ask("POST", "/flow", {"path": 5})
    nora.ask("GET", "/flow?limit=-1")
    nora.ask("POST", "/batch", [{"method": "GET", "path": "/flow"}] * 5)
    for _ in range(2):
        nora.ask("POST", "/flow", {"path": "/nora/y"}, headers={"x-request-id": "same"})
    bob.ask("GET", "/flow")
    Visitor(nora.app, nora.clock, "nora", "wrong").ask("GET", "/flow")

    assert calls_of(nora, nora, 8) == 8
    assert calls_of(nora, bob, 1) == 1


def test_the_settings_of_a_limit_cannot_be_negative():
    """Refused at the start, by name."""
    with pytest.raises(SettingsError, match="rate_limit_per_s"):
        Settings(rate_limit_per_s=-1)
