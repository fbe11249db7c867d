"""The hub under load: turns for everybody else, and a bound on what waits."""

from __future__ import annotations

import pytest

from flowkit import limits
from flowkit.green import sleep
from flowkit.server.live import hub as hub_module
from tests.server.live.listener import Listener


def test_a_large_commit_leaves_everything_else_its_turn(nora, house, monkeypatch):
    """It is given out in parts, in order; between two of them the loop does what is due."""
    monkeypatch.setattr(limits, "hub_turn_s", 0.0)
    monkeypatch.setattr(hub_module, "_PART_OFFERS", 2)
    live = nora.app.live
    seen, is_over = set(), []

    def look():
        while not is_over:
            seen.add(live.hub.offered)
            sleep(0.0001)

    with Listener(nora) as heard, Listener(nora) as plain:
        heard.subscribe(path="/nora/house", sub="a")
        plain.subscribe(path="/nora/house")
        looking = live.loop.spawn(look)
        entries = [{"path": "/nora/house", "elems": {"n": n}} for n in range(100)]
        assert nora.ask("POST", "/drop", entries).status == 201
        for each in (heard, plain):
            numbers = [one["value"]["elems"]["n"] for one in each.take(100)]
            assert numbers == list(range(100))
        is_over.append(True)
        looking.get()
    assert len(seen) > 10


@pytest.mark.parametrize("bound", [0, 1, 10])
def test_what_waits_for_the_hub_is_bounded_and_nothing_is_lost(nora, house, monkeypatch, bound):
    """Beyond the bound a commit names its numbers alone; its readers read the store."""
    monkeypatch.setattr(limits, "told_changes_max", bound)
    hub = nora.app.live.hub
    with Listener(nora) as heard, Listener(nora) as plain:
        heard.subscribe(path="/nora/house", sub="a")
        plain.subscribe(path="/nora/house")
        post = hub._post
        monkeypatch.setattr(hub, "_post", lambda _function: True)
        for n in range(40):
            nora.drop(house, n=n)
        assert (
            sum(len(done.changes or ()) for c in hub._commits for done in c.flows.values()) <= bound
        )
        monkeypatch.setattr(hub, "_post", post)
        post(hub._work_off)
        for n in range(40, 50):
            nora.drop(house, n=n)
        for each in (heard, plain):
            found = []
            while len(found) < 50:
                message = each.next()
                found += [message["value"]["elems"]["n"]] if message["type"] == "message" else []
            assert found == list(range(50))
    assert not hub._commits


def test_a_change_of_rights_does_not_wait_behind_drops(nora, house, monkeypatch):
    """The hub says so at once, whatever is still to be given out."""
    hub, noticed = nora.app.live.hub, []
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house")
        monkeypatch.setattr(hub, "_post", lambda _function: True)
        monkeypatch.setattr(hub, "_on_rights", lambda: noticed.append(True))
        nora.drop(house, n=1)
        assert not noticed
        nora.ask("POST", "/token", {"paths": {"/nora/house": {"dropRead": True}}})
        assert noticed
