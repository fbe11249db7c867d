"""Garbage on every route: never a 5xx, never a hang, always an envelope, and no lost write.

The gate runs a short form; ``tox -e fuzz`` sets ``FLOWKIT_FUZZ_EXAMPLES`` for a campaign.
"""

import json
import os
import re
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("apsw", reason="needs the extra: pip install 'flowkit[server]'")

from flowkit.protocol.resources import RESOURCES
from flowkit.server.auth import ensure_account
from flowkit.server.routes import ROUTES
from flowkit.server.store.verify import verify
from tests.server.visitor import Visitor, visiting
from tests.together import garbage

EXAMPLES = int(os.environ.get("FLOWKIT_FUZZ_EXAMPLES", "2"))
CALL_S = 10.0
"""Longest that one call may take; scripts have bounds of their own below it."""

CAMPAIGN = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
INSIDES = re.compile(r"Traceback|NoneType|object at 0x|Error\(|<class|apsw|sqlite", re.IGNORECASE)


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """A platform, a flow that must lose nothing, and objects for the garbage to meet."""
    folder = tmp_path_factory.mktemp("fuzz")
    with visiting(folder / "data", run_tasks=False) as (nora, bob):
        keeper = Visitor(
            nora.app, nora.clock, "keeper", ensure_account(nora.app.store, "keeper")[1]
        )
        made = garbage.Ground(nora, bob, keeper)
        made.flow = keeper.flow("/keeper/kept", capacity=100_000)
        keep(made)
        for who in (nora, bob):
            who.flow(f"/{who.account}/a")
            made.learn(who.ask("GET", "/identity").body)
        stop = threading.Event()
        keeping = threading.Thread(target=keep_on, args=(made, stop))
        keeping.start()
        try:
            yield made
        finally:
            stop.set()
            keeping.join()
        assert found_of_keeper(made) == made.kept
        assert len(made.kept) > 1  # the first one, and those beside the garbage
    assert verify(folder / "data" / "flowkit.sqlite") == []


def keep(ground):
    """One more drop of the keeper that was acknowledged."""
    drop = ground.keeper.drop(ground.flow, n=len(ground.kept))
    ground.kept[drop["id"]] = drop


def keep_on(ground, stop):
    """The keeper writes beside the garbage, until it is told to stop."""
    keep(ground)
    while not stop.wait(0.02):
        keep(ground)


def found_of_keeper(ground):
    """What the keeper's flow holds, by id."""
    found = ground.keeper.ask("GET", f"/drop/{ground.flow['id']}?limit=100000").body
    return {drop["id"]: drop for drop in found}


def check_nothing_is_lost(ground):
    """Every drop of the keeper that was acknowledged is as it was then."""
    acknowledged = dict(ground.kept)
    found = found_of_keeper(ground)
    assert {key: found.get(key) for key in acknowledged} == acknowledged


def check_answer(response, elapsed_s):
    """What is true of every answer, whatever was asked."""
    assert elapsed_s < CALL_S
    assert response.status < 500
    envelope = json.loads(response.body)
    head = envelope["head"]
    assert set(envelope) == {"head", "body"}
    assert head["status"] == response.status
    assert head["ok"] is (response.status < 300)
    assert bool(head["errors"]) is (response.status >= 300)
    if not head["ok"]:
        assert envelope["body"] == {}
    for sentence in [*head["errors"], *head["messages"]]:
        assert isinstance(sentence, str)
        assert sentence.strip()
        assert "\n" not in sentence
        assert not INSIDES.search(sentence), sentence
    return envelope


@pytest.mark.slow
@pytest.mark.timeout(60 + EXAMPLES)
@pytest.mark.parametrize("route", ROUTES, ids=[f"{each.method} {each.pattern}" for each in ROUTES])
def test_garbage_gets_a_clear_answer(ground, route):
    """Below 500, in time, an envelope, sentences that name no insides; the keeper's drops stay."""
    ground.next_round()

    @CAMPAIGN
    @given(data=st.data())
    def throw(data):
        request = data.draw(garbage.requests(ground, (route,)))
        begun = time.monotonic()
        response = ground.nora.app.handle(request)
        envelope = check_answer(response, time.monotonic() - begun)
        ground.learn(envelope["body"])

    throw()
    check_nothing_is_lost(ground)


WRONG = {
    "any": None,
    "array": {"a": 1},
    "boolean": "yes",
    "destinations": 5,
    "elems": [1],
    "filter": "temp >",
    "grants": "all",
    "id": "x",
    "ids": "x",
    "integer": "many",
    "location": {"lat": 500, "lon": 0},
    "object": [1],
    "path": "no path",
    "string": {"a": 1},
}
"""For each kind of member a value that it cannot have; None: there is none."""

CREATES = {each.pattern for each in ROUTES if each.method == "POST"}
MEMBERS = [
    (resource, member)
    for resource in RESOURCES.values()
    if resource.route in CREATES and resource.name != "identity"
    for member in resource.members.values()
    if not member.read_only and WRONG[member.kind] is not None
]


@pytest.mark.parametrize(
    ("resource", "member"), MEMBERS, ids=[f"{one.name}.{other.name}" for one, other in MEMBERS]
)
def test_a_wrong_value_of_a_member_is_named(ground, resource, member):
    """400, and a sentence that opens with the member, beside those for what is missing."""
    refused = ground.nora.ask("POST", f"/{resource.route}", {member.name: WRONG[member.kind]})

    assert refused.status == 400
    assert [said for said in refused.errors if re.match(rf"{member.name}\b", said)], refused.errors


PARAMETERS = {
    "filter": "temp >",
    "limit": "-1",
    "start": "x",
    "skip": "1.5",
    "sort": "a,b",
    "order": "geo",
    "only": "a..b",
    "refs": "maybe",
    "hints": "2",
    "path": "no path",
    "explain": "x",
    "positions": "x",
    "forget": "x",
    "pretty": "x",
    "level": "CENTURY",
    "device": "none",
    "offset": "-1",
    "size": "1.5",
}
"""For each parameter a value that it cannot have."""

NAMED = [(route, name) for route in ROUTES for name in sorted(route.known)]


@pytest.mark.parametrize(
    ("route", "name"),
    NAMED,
    ids=[f"{route.method} {route.pattern} {name}" for route, name in NAMED],
)
def test_a_wrong_value_of_a_parameter_is_named(ground, route, name):
    """400, and a sentence that opens with the parameter."""
    filled = {"{type}": "flowDropAdded", "{year}": "2017", "{month}": "1", "{day}": "1"}
    filled |= {"{box}": "0f" * 16, "{message}": "ab" * 8, "{n}": "0"}
    flow_id, drop_id = ground.flow["id"], next(iter(ground.kept))
    parts = [
        filled.get(part, flow_id if part == "{flow}" else drop_id) if part[0] == "{" else part
        for part in route.pattern.split("/")
    ]
    body = {"MGET": [], "MPUT": {}}.get(route.method, {})
    target = "/" + "/".join(parts) + f"?{name}={PARAMETERS[name].replace(' ', '%20')}"
    refused = ground.keeper.ask(route.method, target, body)

    assert refused.status == 400
    assert [said for said in refused.errors if said.startswith(f"{name}:")], refused.errors
