"""Senders in a simulated world, and the designs that must be seen to fail in it.

The campaign runs thousands of such worlds: ``python -m tests.together.sending_campaign``.
"""

from __future__ import annotations

import logging

import pytest

from flowkit.device import marks
from flowkit.device.outbox import Outbox
from flowkit.device.sender import Sender
from tests.together.sending import Differs, World

WORLDS = {
    "crashes and late answers": {"clones": False, "restores": False},
    "and a server that goes back": {"clones": False, "restores": True},
    "and copied files": {"clones": True, "restores": False},
    "and both": {"clones": True, "restores": True},
}


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL)


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_every_entry_is_stored_once_or_the_books_say_why_not(tmp_path, world, seed):
    """I8, whatever the network, the files and the server do."""
    World(seed, tmp_path, **WORLDS[world])


def _forget_to_go_back(monkeypatch):
    learn = Sender._learn
    monkeypatch.setattr(
        Sender, "_learn", lambda self, said, *, went_back: learn(self, said, went_back=False)
    )


def _do_not_greet(monkeypatch):
    monkeypatch.setattr(Sender, "_greet", lambda _self, connection, _own: connection.open())


def _believe_any_mark(monkeypatch):
    monkeypatch.setattr(marks, "_ours", lambda *_: True)


def _forget_the_refused(monkeypatch):
    def skip(self, row, _error):
        ledger = self._ledger
        line = ledger.known(row.stream)
        self._file.write(lambda db: ledger.skip(db, line, row.sequence, "refused"))

    monkeypatch.setattr(Outbox, "bury", skip)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "world"),
    [
        (_forget_to_go_back, "and a server that goes back"),
        (_do_not_greet, "and a server that goes back"),
        (_believe_any_mark, "and copied files"),
        (_forget_the_refused, "crashes and late answers"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_weaker_design_is_seen_to_fail(tmp_path, monkeypatch, spoil, world):
    """The books would notice: one of these worlds finds it."""
    spoil(monkeypatch)
    for seed in range(30):
        folder = tmp_path / str(seed)
        folder.mkdir()
        try:
            World(seed, folder, steps=200, **WORLDS[world])
        except Differs:
            return
    pytest.fail("nothing was noticed in 30 worlds")
