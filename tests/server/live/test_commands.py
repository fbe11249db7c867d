"""What a client says over a session: every command, its reply, and what is no command."""

from __future__ import annotations

import contextlib
import json

import pytest
from websockets.exceptions import ConnectionClosed

from flowkit import limits
from flowkit.protocol.resources import RESOURCES
from tests.server.live.listener import Listener


@pytest.fixture
def heard(nora):
    """A connection of nora's."""
    with Listener(nora) as listener:
        yield listener


MODELS = {
    "flow": {"path": "/nora/new"},
    "drop": {"path": "/nora/house", "elems": {"n": 1}},
    "track": {"source": "/nora/house", "destination": "/nora/warm"},
    "group": {"memberIds": []},
    "token": {"paths": {"/nora/house": {"dropRead": True}}},
    "device": {"path": "/nora/device"},
    "api-task": {"destination": "/nora/house", "js": "function () {}", "disabled": True},
    "rss": {"destination": "/nora/house", "url": "http://example.org/x", "disabled": True},
    "mqtt": {
        "destination": "/nora/house",
        "uri": "tcp://example.org:1883",
        "topic": "x",
        "disabled": True,
    },
}
"""What can be created of each object."""

CHANGES = {"drop": {"fhash": "x"}, "device": {"displayName": "x"}, "mqtt": {"displayName": "x"}}


@pytest.mark.parametrize("resource", [*MODELS, "identity", "share"])
def test_every_object_has_its_commands(nora, bob, heard, house, resource):
    """Each does what its route does and is answered alike; only msgId is added (9.2)."""
    nora.flow("/nora/warm")
    flow = {"flowId": house["id"]} if resource == "drop" else {}
    model = MODELS.get(resource)
    if resource == "share":
        bob_id = bob.ask("GET", "/identity").body[0]["id"]
        model = {"paths": {"/nora/house": {"dropRead": True}}, "issuedTo": bob_id}
    if model is None:
        assert heard.ask("create", object=resource, value={})["head"]["status"] == 403
        found_id = nora.ask("GET", "/identity").body[0]["id"]
    else:
        made = heard.ask("create", object=resource, value=model)
        assert made["head"]["status"] == 201, made["head"]
        found_id = made["body"]["id"]
    route = f"/{resource}/{house['id']}" if flow else f"/{resource}"

    read = heard.ask("find", object=resource, id=found_id, **flow)
    twin = nora.ask("GET", f"{route}/{found_id}")
    assert (read["body"], read["head"]["status"]) == (twin.body, 200)

    many = heard.ask("findmany", object=resource, options={"limit": "5", "refs": 1}, **flow)
    twin = nora.ask("GET", f"{route}?limit=5&refs=1")
    assert (many["body"], many["head"]["references"]) == (twin.body, twin.head["references"])

    value = CHANGES.get(resource, {"icon" if resource == "identity" else "description": "x"})
    changed = heard.ask("update", object=resource, id=found_id, value=value, **flow)
    updatable = next(each for each in RESOURCES.values() if each.route == resource).updatable
    assert changed["head"]["status"] in ((200, 400) if updatable else (405,)), changed["head"]

    gone = heard.ask("delete", object=resource, id=found_id, **flow)
    assert gone["head"]["status"] == (403 if resource == "identity" else 200)
    again = heard.ask("find", object=resource, id=found_id, **flow)["head"]["status"]
    assert again == (200 if resource == "identity" else 404)


@pytest.mark.parametrize("msg_id", ["a", "", 0, 7, 1.5, -1])
def test_a_reply_repeats_the_msg_id_with_its_type(nora, heard, house, msg_id):
    """Texts stay texts, numbers numbers."""
    heard.say({"type": "findmany", "object": "drop", "flowId": house["id"], "msgId": msg_id})
    head = heard.reply()["head"]
    assert head == {
        "msgId": msg_id,
        "status": 200,
        "ok": True,
        "errors": [],
        "messages": ["Your request has been processed successfully."],
        "references": {},
    }
    assert type(head["msgId"]) is type(msg_id)


def test_without_a_msg_id_only_failures_are_answered(nora, heard, house):
    """A reply could not be matched; a failure must not be silent (9.2)."""
    heard.say({"type": "create", "object": "drop", "flowId": house["id"], "value": {"elems": {}}})
    heard.say({"type": "subscribe", "object": "drop", "path": "/nora/house"})
    heard.say({"type": "heartbeat"})
    heard.say({"type": "find", "object": "flow", "id": "f" + "0" * 24})
    head = heard.reply()["head"]
    assert (head["status"], "msgId" in head) == (404, False)
    assert len(nora.drops(house)) == 1


BROKEN = {
    "no JSON": ("{", 400, "is not JSON"),
    "no object": ("[]", 400, "a message is a JSON object"),
    "an empty frame": ("", 400, "is empty"),
    "too deep": ("[" * 200 + "]" * 200, 400, "levels deep"),
    "no type": ({}, 400, "type: must be one of"),
    "an unknown type": ({"type": "aggregate"}, 400, "type: must be one of"),
    "a type that is no text": ({"type": ["create"]}, 400, "type: must be one of"),
    "a msgId that is an object": ({"type": "find", "msgId": {}}, 400, "msgId:"),
    "a msgId that is true": ({"type": "find", "msgId": True}, 400, "msgId:"),
    "no object member": ({"type": "find", "id": "x"}, 400, "object: must be one of"),
    "an unknown object": ({"type": "find", "object": "table"}, 400, "object: must be one of"),
    "an object that is a list": ({"type": "find", "object": []}, 400, "object: must be one of"),
    "no id": ({"type": "find", "object": "flow"}, 400, "id: is required"),
    "an id that is a number": ({"type": "find", "object": "flow", "id": 1}, 400, "id: is required"),
    "a drop without a flow": ({"type": "find", "object": "drop", "id": "d"}, 400, "flowId:"),
    "emptying a flow": ({"type": "delete", "object": "drop", "flowId": "f"}, 400, "id: is req"),
    "no value": ({"type": "create", "object": "flow"}, 400, "value: an object"),
    "options as a list": ({"type": "findmany", "object": "flow", "options": []}, 400, "options:"),
    "a bad option": (
        {"type": "findmany", "object": "flow", "options": {"limit": "x"}},
        400,
        "limit:",
    ),
    "a broken filter": (
        {"type": "findmany", "object": "flow", "options": {"filter": "a =="}},
        400,
        "filter:",
    ),
    "a subscription to tracks": ({"type": "subscribe", "object": "track", "path": "/nora/house"},
                                 400, "object: only drops"),
    "a subscription to nothing": ({"type": "subscribe", "object": "drop"}, 400, "flowId: is req"),
    "an unknown flow": (
        {"type": "subscribe", "object": "drop", "path": "/nora/nowhere"},
        404,
        "could not be located",
    ),
    "a reader without a name": (
        {"type": "subscribe", "path": "/nora/house", "filter": "a == 1"},
        400,
        "sub:",
    ),
    "AGE in a view": (
        {"type": "subscribe", "path": "/nora/house", "sub": "v", "live": True, "filter": "AGE < 5"},
        400,
        "filter: AGE cannot be used in a live query",
    ),
    "unsubscribing from nothing": ({"type": "unsubscribe"}, 400, "flowId: is required"),
    "a NUL in an address": ({"type": "find", "object": "flow", "id": "\0/../x"}, 404, "located"),
}  # fmt: skip
"""A message, and the status and words of the reply."""


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_command_is_refused_and_the_connection_stays(heard, house, name):
    """With the msgId, if it could be read (9.3)."""
    message, status, words = BROKEN[name]
    is_named = isinstance(message, dict) and "msgId" not in message
    heard.say({**message, "msgId": 5} if is_named else message)
    reply = heard.reply()
    assert (reply["head"]["status"], reply["head"]["ok"]) == (status, False)
    assert words in reply["head"]["errors"][0]
    assert reply["head"].get("msgId") == (5 if is_named else None)
    assert heard.ask("findmany", object="flow")["head"]["ok"]


def test_commands_are_worked_on_side_by_side(nora, heard, house):
    """Replies may come in any order; each is paired by its msgId, and none is missing."""
    for n in range(50):
        value = {"path": "/nora/house", "elems": {"n": n}}
        heard.say({"type": "create", "object": "drop", "value": value, "msgId": n})
    replies = [heard.reply() for _ in range(50)]
    assert sorted(one["head"]["msgId"] for one in replies) == list(range(50))
    assert {one["body"]["elems"]["n"] for one in replies} == set(range(50))


def test_a_subscription_sees_what_its_own_connection_writes(nora, heard, house):
    """The writer's own drops are pushed to itself (9.4)."""
    heard.subscribe(path="/nora/house")
    reply = heard.ask("create", object="drop", value={"path": "/nora/house", "elems": {"n": 1}})
    assert heard.next()["value"] == reply["body"]


def test_a_write_by_command_tells_its_position(nora, heard, house):
    """With ``positions`` among its options (positions 2.7)."""
    said = {"value": {"path": "/nora/house", "elems": {}}, "options": {"positions": 1}}
    head = heard.ask("create", object="drop", **said)["head"]
    assert head["position"] == f"p1.{house['id']}.{nora.app.store.epoch}.1"


def test_a_message_in_fragments_is_one_message(heard, house):
    """So a client may send it bit by bit."""
    text = json.dumps({"type": "findmany", "object": "flow", "msgId": 3})
    heard._ws.send(iter([text[:5], text[5:9], text[9:]]))
    assert heard.reply()["head"]["msgId"] == 3


def test_fragments_are_bounded_together(heard):
    """1009, before more than the bound is kept."""
    parts = ["x" * (limits.frame_bytes_max // 2)] * 3
    with contextlib.suppress(ConnectionClosed):  # the server may close while it is being sent
        heard._ws.send(iter(parts))
    assert heard.closed_with()[0] == 1009
