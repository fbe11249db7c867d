"""Sentences of the contract that no other test of this folder states."""

from __future__ import annotations

import pytest

from flowkit import limits
from tests.server.live.listener import Listener, new_session
from tests.server.live.test_corners import masked, poll, post, raw
from tests.server.live.test_readers import change_drop, number, told
from tests.server.live.test_sessions import BIG, wait_until


def test_the_age_of_a_listener_is_counted_to_the_change(nora, house):
    """So a replay, whenever it comes, tells what was told live."""
    asked = {
        "path": "/nora/house",
        "filter": "AGE > 5000",
        "changes": ["create", "update", "delete"],
    }
    with Listener(nora) as heard:
        heard.subscribe(sub="live", **asked)
        first = nora.drop(house, n=1)
        nora.clock.now_ms += 4_000
        change_drop(nora, house, first, n=2)
        nora.clock.now_ms += 4_000
        change_drop(nora, house, first, n=3)
        nora.ask("DELETE", f"/drop/{house['id']}/{first['id']}")
        live = heard.take(2)
        nora.clock.now_ms += 3_600_000
        heard.subscribe(sub="replay", since="start", **asked)
        replayed = heard.until("position")[:-1]
    assert told(live) == [("message", "update", 3), ("message", "delete", 3)]
    assert [{**one, "sub": "live"} for one in replayed] == live


def test_a_flow_that_keeps_nothing_can_be_replayed_if_it_has_a_history(nora):
    """To a listener what passes is created; a view never holds it."""
    flow = nora.flow("/nora/radio", capacity=0, history=3)
    for n in range(5):
        nora.drop(flow, n=n)
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/radio", sub="v", live=True)
        assert [one["type"] for one in heard.until("position")] == ["snapshot"] * 2 + ["position"]
        heard.subscribe(path="/nora/radio", sub="a", since="start")
        gap, *rest = heard.until("position")
        assert (gap["type"], gap["reason"], number({"position": gap["to"]})) == (
            "gap",
            "forgotten",
            2,
        )
        assert told(rest[:-1]) == [("message", "create", n) for n in (2, 3, 4)]
        nora.drop(flow, n=5)
        assert told([heard.next()]) == [("message", "create", 5)]
        assert heard.is_quiet()


def test_an_update_is_told_also_if_what_is_shown_stays_the_same(nora, house):
    """What a view shows of a drop does not decide what it is told."""
    drop = nora.drop(house, n=1, m=1)
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house", sub="v", live=True, only="id,elems.n")
        heard.until("position")
        change_drop(nora, house, drop, n=1, m=2)
        message = heard.next()
    assert (message["type"], message["value"]) == ("update", {"id": drop["id"], "elems": {"n": 1}})


def test_readers_end_with_their_connection_and_plain_subscriptions_do_not(nora, house):
    """The next connection of the session finds the plain ones alone."""
    with Listener(nora) as older:
        older.subscribe(path="/nora/house")
        older.subscribe(path="/nora/house", sub="a")
        older.subscribe(path="/nora/house", sub="v", live=True)
        older.break_off()
    hub = nora.app.live.hub
    wait_until(lambda: hub.count == 1)
    nora.drop(house, n=1)
    with Listener(nora, older.id) as heard:
        assert "sub" not in heard.next()
        assert heard.is_quiet()


@pytest.mark.parametrize(
    "said", [{"slow": "disconnect"}, {"slow": "drop"}, {"slow": "squash", "live": True}]
)
def test_who_takes_nothing_at_all_is_cut_under_every_policy(nora, house, monkeypatch, said):
    """However little waits: the bound of the queue is not reached."""
    monkeypatch.setattr(limits, "push_stall_s", 0.2)
    connected, session = raw(nora)
    live = nora.app.live
    with connected:
        wait_until(lambda: session._line is not None)
        line = session._line
        post(nora, session.id, {"type": "subscribe", "path": "/nora/house", "sub": "a", **said})
        while not line.is_blocked:
            nora.drop(house, text=BIG)
        assert not session.pushes.is_full
        wait_until(lambda: line not in live.lines)
        assert live.hub.count == 0


def test_pings_are_answered_with_what_they_carry(nora):
    """Some clients send their heartbeat as one."""
    connected, _ = raw(nora)
    with connected:
        connected.sendall(masked(9, b'{"type":"heartbeat"}'))
        assert connected.recv(100) == b'\x8a\x14{"type":"heartbeat"}'


def test_a_session_outlives_its_last_poll_for_a_while(nora, house, monkeypatch):
    """Past that it is closed, with its readers."""
    monkeypatch.setattr(limits, "poll_wait_s", 0.05)
    session_id = new_session(nora)
    post(nora, session_id, {"type": "subscribe", "path": "/nora/house", "sub": "a", "msgId": 1})
    assert len(poll(nora, session_id)) == 1
    session = nora.app.live.session(session_id)
    session.life._since["entered"] -= limits.session_resume_s - 0.1
    assert poll(nora, session_id) == []
    assert not session.is_closed
    session.life._since["entered"] -= limits.session_resume_s
    wait_until(lambda: session.is_closed)
    assert nora.app.live.hub.count == 0


@pytest.mark.parametrize(
    ("code", "is_over"), [(b"\x03\xe8", True), (b"", True), (b"\x03\xe9", False)]
)
def test_a_close_in_order_ends_the_session(nora, code, is_over):
    """With 1000 or without a code, as browsers send it; who goes away with 1001 may come back."""
    connected, session = raw(nora)
    with connected:
        wait_until(lambda: session._line is not None)
        connected.sendall(masked(8, code))
        assert connected.recv(100)[:1] == b"\x88"
        wait_until(lambda: session._line is None)
    assert session.is_closed is is_over
