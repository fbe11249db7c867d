"""Garbage over a session: no fault of the server, no reply missing, nothing lost."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowkit.protocol.subscribing import KINDS
from flowkit.server.live.commands import TYPES
from tests.server.live.listener import Listener
from tests.server.visitor import visiting

EXAMPLES = int(os.environ.get("FLOWKIT_FUZZ_EXAMPLES", "200"))

NUMBERS = st.integers(-(2**63), 2**63 - 1)
"""What JSON holds here; of a message with another one not even the ``msgId`` can be read."""

ODD = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.lists(st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3), NUMBERS, max_size=2),
)
"""What stands where it should not."""


def likely(*values):
    """Mostly one of *values*, sometimes something odd."""
    return st.one_of(st.sampled_from(values), st.sampled_from(values), ODD)


MESSAGES = st.fixed_dictionaries(
    {"type": likely(*TYPES)},
    optional={
        "object": likely("drop", "flow", "track", "token", "group", "identity", "device", "rss"),
        "id": likely("FLOW", "DROP", "f" + "0" * 24, "x/../y"),
        "flowId": likely("FLOW", "f" + "0" * 24),
        "path": likely("/nora/house", "/nora/new", "/bob/x", "house"),
        "value": likely(
            {"elems": {"n": 1}},
            {"path": "/nora/house", "elems": {"n": 2}},
            {"path": "/nora/new"},
            {"elems": {}, "fhash": "x"},
        ),
        "options": likely({"limit": "2"}, {"filter": "n > 1"}, {"sort": [1]}, {"hints": "maybe"}),
        "sub": likely("a", "b", "", "x" * 65),
        "filter": likely("n > 1", "n >", "AGE < 5", "s =~ /(a/"),
        "since": likely("start", "PLACE", "p1.x.y.z"),
        "changes": likely(list(KINDS), ["create"], [], ["pass"], [["create"]]),
        "live": likely(True, False),
        "slow": likely("disconnect", "drop", "squash", "never"),
        "only": likely("n", ["n", "m"], {"n": 1}),
        "hints": likely(True, "0"),
        "limit": likely(1),
    },
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A platform with a flow of some drops."""
    with visiting(tmp_path_factory.mktemp("fuzz") / "data") as (nora, _):
        flow = nora.flow("/nora/house")
        drop = nora.drop(flow, n=1)
        place = nora.ask("GET", f"/drop/{flow['id']}?positions=1").head["position"]
        yield nora, {"FLOW": flow["id"], "DROP": drop["id"], "PLACE": place}


@pytest.mark.timeout(60 + EXAMPLES)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(MESSAGES, min_size=1, max_size=12))
def test_every_message_is_answered_and_none_is_a_fault(world, messages):
    """Whatever its members are: a reply with its number, never a 5xx, and the session goes on."""
    nora, names = world
    with Listener(nora) as heard:
        for number, message in enumerate(messages):
            said = {
                key: names.get(value, value) if isinstance(value, str) else value
                for key, value in message.items()
            }
            heard.say({**said, "msgId": number})
        waiting = {
            number for number, message in enumerate(messages) if message["type"] != "heartbeat"
        }
        while waiting:
            head = heard.reply()["head"]
            assert head["status"] < 500, (head, messages)
            assert head["ok"] is (head["status"] < 300)
            waiting.discard(head.get("msgId"))
        assert heard.ask("findmany", object="flow")["head"]["ok"]


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.one_of(st.binary(max_size=40), st.text(max_size=40)), min_size=1, max_size=6))
def test_what_is_no_message_is_refused_and_the_session_goes_on(world, frames):
    """Texts and bytes of any kind: 400 for each, or the close that broken UTF-8 is due."""
    nora, _ = world
    with Listener(nora) as heard:
        for frame in frames:
            heard._ws.send(frame)
        for _ in frames:
            assert heard.reply()["head"]["status"] == 400
        assert heard.ask("findmany", object="flow")["head"]["ok"]
