"""Replays and snapshots page by page, beside other readers of the same connection."""

from __future__ import annotations

import pytest

from flowkit import limits
from flowkit.green import monotonic, sleep
from flowkit.protocol.subscribing import Subscribe
from tests.server.live.listener import new_session
from tests.server.live.test_corners import poll, post


def wait_until(is_so):
    """Return once *is_so* says so; lets the loop go on if it is called there."""
    until = monotonic() + 5.0
    while not is_so():
        assert monotonic() < until, "it did not come about"
        sleep(0.005)


def until_end(who, session_id):
    """The messages of polls up to the end of a snapshot."""
    found = []
    while not any(one.get("state") == "end" for one in found):
        heard = poll(who, session_id)
        assert heard, f"nothing came after {len(found)} messages"
        found += heard
    return found


def items(messages, sub):
    """The element ``n`` of the items of a view's snapshot."""
    return [
        one["value"]["elems"]["n"]
        for one in messages
        if one.get("type") == "item" and one["sub"] == sub
    ]


def test_a_snapshot_is_whole_also_if_its_pages_meet_a_queue_that_has_filled(
    nora, house, monkeypatch
):
    """Pushes of another reader that come while a page is read take room from it."""
    monkeypatch.setattr(limits, "poll_wait_s", 1.0)
    nora.app.live.queue_messages_max = 8
    other = nora.flow("/nora/other")
    for n in range(30):
        nora.drop(house, n=n)
    session_id = new_session(nora)
    session = nora.app.live.session(session_id)
    post(nora, session_id, {"type": "subscribe", "path": "/nora/other", "sub": "b", "slow": "drop"})
    listener = session.readers()[0]
    read = nora.app.live.read

    def read_and_write(job):
        page = read(job)
        if getattr(page, "states", ()):
            until = listener.pos + 5
            for n in range(5):
                nora.drop(other, n=n)
            wait_until(lambda: listener.pos == until)
        return page

    monkeypatch.setattr(nora.app.live, "read", read_and_write)
    post(nora, session_id, {"type": "subscribe", "path": "/nora/house", "sub": "a", "live": True})
    wait_until(lambda: session.pushes.is_full)
    assert items(until_end(nora, session_id), "a") == list(range(30))


@pytest.mark.parametrize("attempts", [0, 2])
def test_a_snapshot_keeps_within_the_bound_in_bytes(nora, house, monkeypatch, attempts):
    """Also where it is read whole: what does not fit waits outside of the queue."""
    monkeypatch.setattr(limits, "poll_wait_s", 1.0)
    monkeypatch.setattr("flowkit.server.live.pages._ATTEMPTS_BY_PAGE", 2 - attempts)
    nora.app.live.queue_bytes_max = 20_000
    for n in range(100):
        nora.drop(house, n=n, text="x" * 2_000)
    session_id = new_session(nora)
    session = nora.app.live.session(session_id)
    ask = {"type": "subscribe", "path": "/nora/house", "sub": "a", "live": True}
    assert post(nora, session_id, ask).status == 200
    wait_until(lambda: session.pushes.messages)
    assert session.pushes.bytes < 30_000
    assert items(until_end(nora, session_id), "a") == list(range(100))
    assert not session.is_closed


def test_changes_that_came_while_a_snapshot_was_read_whole_wait_for_their_reader(nora, monkeypatch):
    """However many they are: a hand-over is no slow reader."""
    monkeypatch.setattr("flowkit.server.live.pages._ATTEMPTS_BY_PAGE", 0)
    monkeypatch.setattr(limits, "poll_wait_s", 1.0)
    nora.app.live.queue_messages_max = 8
    house = nora.flow("/nora/house")
    for n in range(5):
        nora.drop(house, n=n)
    session_id = new_session(nora)
    session = nora.app.live.session(session_id)
    read = nora.app.live.read

    def read_and_write(job):
        page = read(job)
        if getattr(page, "states", ()):
            for n in range(100, 130):
                nora.drop(house, n=n)
            wait_until(lambda: any(len(one.backlog or ()) == 30 for one in session.readers()))
        return page

    monkeypatch.setattr(nora.app.live, "read", read_and_write)
    ask = {"type": "subscribe", "path": "/nora/house", "sub": "a", "live": True}
    assert post(nora, session_id, ask).status == 200
    entered = []
    messages = until_end(nora, session_id)
    assert items(messages, "a") == list(range(5))
    while len(entered) < 30:
        entered += [one["value"]["elems"]["n"] for one in messages if one.get("type") == "enter"]
        messages = [] if len(entered) >= 30 else poll(nora, session_id)
        assert not session.is_closed
    assert entered == list(range(100, 130))


def test_few_pages_are_read_at_once_however_many_readers_are_behind(nora, house, monkeypatch):
    """What is pushed to those who are up to date does not wait behind all of them."""
    live = nora.app.live
    for n in range(10):
        nora.drop(house, n=n)
    read, under_way, most = live.read, [], []

    def read_slowly(job):
        under_way.append(job)
        most.append(len(under_way))
        sleep(0.002)
        try:
            return read(job)
        finally:
            under_way.remove(job)

    sessions = [live.session(new_session(nora)) for _ in range(20)]
    for each in sessions:
        live.loop.call(each.subscribe, Subscribe(path="/nora/house", sub="a"), None)
    readers = [each.readers()[0] for each in sessions]
    monkeypatch.setattr(live, "read", read_slowly)
    live.loop.call(lambda: [each.session.fall_behind(each) for each in readers])
    wait_until(lambda: all(each.is_attached for each in readers))
    assert len(most) == 20
    assert max(most) == limits.replay_pages_at_once_max
