"""The way from the loop to its consumer."""

from __future__ import annotations

from flowkit.client.live.inbox import Inbox


def nothing():
    """Nobody waits for room."""


def test_what_was_added_before_the_end_is_taken_before_it():
    """A consumer who looks between the end and the flush of its batch finds all of it."""
    inbox = Inbox([], nothing)
    inbox.add("last words", 0)
    inbox.close()
    assert inbox.take(10) == ["last words"]
    inbox.flush()
    assert inbox.take(10) == []


def test_what_is_discarded_is_not_taken():
    """Who closes his own end wants nothing more."""
    inbox = Inbox([], nothing)
    inbox.add("unwanted", 0)
    inbox.close(discard=True)
    inbox.flush()
    assert inbox.take(10) == []
