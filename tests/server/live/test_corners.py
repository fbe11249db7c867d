"""Subscriptions in the corners: odd messages, floods, stalled readers, early ends."""

from __future__ import annotations

import pytest

from tests.server.live.listener import Listener


def nested(depth):
    """A list in a list in a list."""
    made = 1
    for _ in range(depth):
        made = [made]
    return made


ODD = {
    "unsubscribe sub": {"type": "unsubscribe", "sub": [1], "path": "/nora/house"},
    "unsubscribe flowId": {"type": "unsubscribe", "flowId": {}, "path": "/nora/house"},
    "unsubscribe path": {"type": "unsubscribe", "flowId": "f", "path": []},
    "object": {"type": "find", "object": ["drop"], "id": "d"},
    "subscribe object": {"type": "subscribe", "object": {}, "path": "/nora/house"},
    "filter": {"type": "subscribe", "path": "/nora/house", "sub": "a", "filter": [1]},
    "only": {"type": "subscribe", "path": "/nora/house", "sub": "a", "only": {"a": 1}},
    "hints": {"type": "subscribe", "path": "/nora/house", "sub": "a", "hints": [[]]},
    "changes": {"type": "subscribe", "path": "/nora/house", "sub": "a", "changes": [["create"]]},
    "deep": {"type": "create", "object": "drop", "value": {"path": "/nora/house", "elems": {}}},
    "options": {"type": "findmany", "path": "/nora/house", "options": {"limit": {"a": [1]}}},
    "option names": {"type": "findmany", "path": "/nora/house", "options": {"": [], "sort": 5}},
    "path": {"type": "findmany", "object": "drop", "path": ["/nora/house"]},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_members_are_refused_and_the_connection_stays(nora, house, name):
    """Whatever a member holds: the message is answered, and so is the next one."""
    message = dict(ODD[name])
    if name == "deep":
        message["value"] = {**message["value"], "elems": {"a": nested(400)}}
    with Listener(nora) as heard:
        heard.say({**message, "msgId": "odd"})
        assert heard.reply()["head"]["status"] == 400
        assert heard.ask("find", flowId=house["id"], id="d")["head"]["status"] in (400, 404)
