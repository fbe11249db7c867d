"""When something fails on the server's side: nobody is left standing without a word."""

from __future__ import annotations

import pytest

from flowkit.green import Cell
from flowkit.protocol.session import FAULT, POLICY
from flowkit.server.live.told import Told
from tests.server.live.listener import Listener
from tests.server.live.test_pages import wait_until
from tests.server.live.test_sessions import token


@pytest.mark.parametrize("where", ["fits", "message"])
def test_a_reader_that_fails_ends_alone(nora, house, monkeypatch, where):
    """It is told so; the readers behind it get the change, and every later one."""
    with Listener(nora) as first, Listener(nora) as other:
        first.subscribe(path="/nora/house", sub="bad", filter="n > 0")
        other.subscribe(path="/nora/house", sub="good", filter="n >= 0")
        bad = nora.app.live.session(first.id).readers()[0]
        usual = getattr(Told, where)

        def fail(self, asker, *args):
            if asker in (bad, bad.matches):
                raise RuntimeError("a defect of ours")
            return usual(self, asker, *args)

        monkeypatch.setattr(Told, where, fail)
        nora.drop(house, n=1)
        end = first.next()
        assert (end["type"], end["reason"], end["status"]) == ("end", "fault", 500)
        assert other.next()["value"]["elems"] == {"n": 1}
        nora.drop(house, n=2)
        assert other.next()["value"]["elems"] == {"n": 2}
        assert first.is_quiet()


def test_a_plain_subscription_that_fails_ends_its_connection(nora, house, monkeypatch):
    """It has no message for it; 1011 makes its client come again."""

    def fail(*_):
        raise RuntimeError("a defect of ours")

    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house")
        monkeypatch.setattr(Told, "plain", fail)
        nora.drop(house, n=1)
        assert heard.closed_with()[0] == FAULT


def test_a_reader_of_a_connection_that_was_replaced_meanwhile_is_none(nora, house, monkeypatch):
    """Readers end with the connection that asked for them, also before they have begun."""
    live = nora.app.live
    read, asked, goes_on = live.read, Cell(), Cell()

    def read_late(job):
        found = read(job)
        if not asked.is_ready:
            asked.set(None)
            goes_on.get()
        return found

    with Listener(nora) as older:
        session = live.session(older.id)
        monkeypatch.setattr(live, "read", read_late)
        older.say({"type": "subscribe", "path": "/nora/house", "sub": "a", "msgId": 1})
        asked.get()
        with Listener(nora, older.id) as heard:
            wait_until(lambda: session._line is not None and live.lines != {session._line})
            older.closed_with()
            goes_on.set(None)
            assert heard.reply()["head"]["status"] == 404
            nora.drop(house, n=1)
            assert heard.is_quiet()
            assert live.hub.count == 0


def test_a_session_that_fails_as_time_passes_ends_alone(nora, house, monkeypatch):
    """Time goes on for the others, and their rights are looked at."""
    live = nora.app.live
    guest, made = token(nora, {"/nora/house": {"dropRead": True}})
    with Listener(nora) as bad, Listener(guest) as heard:
        heard.subscribe(path="/nora/house")

        def fail():
            raise RuntimeError("a defect of ours")

        monkeypatch.setattr(live.session(bad.id), "tick", fail)
        nora.ask("DELETE", f"/token/{made['id']}")
        assert heard.closed_with()[0] == POLICY
        assert bad.closed_with()[0] == FAULT
