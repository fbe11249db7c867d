"""Subscriptions under everything that can go wrong: what each reader hears is what truly happened.

Real servers, real writers, real sockets; bounds so tiny that pages hold one change and queues a few
messages. The invariants I1 to I6 of ``positions`` 11 are checked at every rest. A seed gives the
plan of a world, not the interleaving of its threads: a new run is a new trial.

``FLOWKIT_FEEDS_WORLDS`` sets the number of worlds; ``tox -e feeds`` runs many more of them, with
the client library's subscriptions as readers too.
"""

from __future__ import annotations

import os

import pytest

pytest.importorskip("apsw", reason="needs the extra: pip install 'flowkit[server]'")

from flowkit import limits
from tests.together.feeds.naive import DESIGNS, late
from tests.together.feeds.servers import InProcess, OwnProcess
from tests.together.feeds.tiny import Tiny
from tests.together.feeds.world import Plan, World

WORLDS = int(os.environ.get("FLOWKIT_FEEDS_WORLDS", "1"))
TRIES = 40

IN_PROCESS = Plan(rounds=3, writes=40, restart_share=0.8)
KILLED = Plan(
    rounds=2,
    writes=40,
    restarts=("kill", "kill", "stop", "back"),
    restart_share=0.9,
    guests=2,
)


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", range(WORLDS))
def test_what_readers_hear_is_what_happened(tmp_path, seed):
    """Restarts, roll-backs, losses, stalls and slow readers: no reader misses or gets too much."""
    tiny = Tiny()
    with tiny.here(), late():
        world = World(InProcess(tmp_path, tiny), f"in process {seed}", IN_PROCESS)

        assert list(map(str, world.run())) == []

    assert world.counts.messages > 0


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", range((WORLDS + 1) // 2))
def test_what_readers_hear_is_what_happened_across_kill_9(tmp_path, monkeypatch, seed):
    """The same with a server of its own that is killed in the middle of its work, and with the
    client library's subscriptions and views behind a proxy of faults.
    """
    monkeypatch.setattr(limits, "reconnect_first_delay_s", 0.02)
    monkeypatch.setattr(limits, "reconnect_delay_max_s", 0.1)
    monkeypatch.setattr(limits, "resubscribe_delay_max_s", 0.1)
    tiny = Tiny()
    world = World(OwnProcess(tmp_path, tiny), f"killed {seed}", KILLED)

    assert list(map(str, world.run())) == []
    assert world.counts.restarts > 0


@pytest.mark.slow
@pytest.mark.timeout(90)
@pytest.mark.parametrize("design", DESIGNS, ids=[design.name for design in DESIGNS])
def test_designs_that_only_look_right_are_seen_to_fail(tmp_path, design):
    """In these same worlds the checker finds what each of them does to its readers."""
    tiny = Tiny()
    found: list[str] = []
    with tiny.here(), late(), design.here():
        for seed in range(TRIES):
            world = World(InProcess(tmp_path / str(seed), tiny), str(seed), design.plan)
            found = [str(each) for each in world.run() if each.rule != "5xx"]
            if found:
                break

    assert found != []
