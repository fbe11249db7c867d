"""Waiting until the server has confirmed a subscription."""

from __future__ import annotations

import pytest

from flowkit import DeadlineExceeded, NotFound, UsageError, embedded, mem


def test_what_is_written_after_that_comes():
    """So a script may subscribe, then write, then read what it wrote."""
    with embedded(account="nora") as api:
        api.flow.create({"path": "/nora/house"})
        subscription = api.drop("/nora/house").subscribe(mem.n > 1).wait_ready(10)
        for n in range(4):
            api.drop.create({"path": "/nora/house", "elems": {"n": n}})
        assert [subscription.next(10)["elems"]["n"] for _ in range(2)] == [2, 3]


def test_a_refusal_is_raised_and_closes_it():
    """Where it is waited for."""
    with embedded(account="nora") as api:
        subscription = api.drop("/nora/nowhere").subscribe()
        with pytest.raises(NotFound):
            subscription.wait_ready(10)
        assert subscription.is_closed


def test_handlers_wait_the_same_way():
    """A plain subscription has no such moment and says so."""
    with embedded(account="nora") as api, api.websocket.connect() as ws:
        api.flow.create({"path": "/nora/house"})
        heard = []
        ws.subscribe("/nora/house", filter="n > 1", on_drop=heard.append).wait_ready(10)
        with pytest.raises(UsageError, match="a plain subscription"):
            ws.subscribe("/nora/house").wait_ready(10)


def test_it_waits_no_longer_than_it_may():
    """A server that is not there confirms nothing."""
    from flowkit import API, Token

    with (
        API(Token("nora", "x" * 32), host="127.0.0.1:9", secure=False) as api,
        pytest.raises(DeadlineExceeded, match=r"was not confirmed within 0\.1 s"),
    ):
        api.drop("/nora/house").subscribe().wait_ready(0.1)
